"""What a plan grants of a feature (as clients post it), and what a check of it answers.

What a customer has in the end, from all subscriptions, is `schemas.contracts.Entitlement`.
"""

from datetime import datetime
from decimal import Decimal
from typing import Literal

from msgspec import Struct

UsagePeriod = Literal["hour", "day", "week", "month", "quarter", "half_year", "year", "billing_period", "never"]
CheckReason = Literal[
    "within_limit",
    "limit_exceeded",
    "soft_limit_exceeded",
    "unlimited",
    "enabled",
    "disabled",
    "not_entitled",
    "unknown_usage",
]

DEFAULT_THRESHOLDS: tuple[int, ...] = (50, 80, 100)  # percent of the limit


class MeteredEntitlement(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="metered"
):
    feature: str  # id or key
    limit: Decimal | None = None  # per usage period; None is unlimited
    usage_period: UsagePeriod = "billing_period"
    soft: bool = False  # allow beyond the limit, and say so
    thresholds: tuple[int, ...] = DEFAULT_THRESHOLDS


class BooleanEntitlement(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="boolean"
):
    feature: str
    enabled: bool = True


class StaticEntitlement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="static"):
    feature: str
    config: str


EntitlementSpec = MeteredEntitlement | BooleanEntitlement | StaticEntitlement


class CheckAnswer(Struct, frozen=True, kw_only=True):
    """The answer to `POST /v1/check`. Quantities are None where the feature has none (and the usage is not zero then).

    `usage` None with reason `unknown_usage` means just that: it is not known.
    """

    allowed: bool
    reason: CheckReason
    usage: Decimal | None = None
    limit: Decimal | None = None
    balance: Decimal | None = None  # what is left, never below 0
    overage: Decimal | None = None  # what is used beyond the limit
    resets_at: datetime | None = None
    as_of: datetime | None = None
    stale: bool = False
    config: str | None = None  # of a static feature


class ThresholdCrossing(Struct, frozen=True, kw_only=True):
    percent: int
    quantity: Decimal  # the usage at which it lies
