"""Subscriptions: a customer holds a plan version from an instant on."""

from datetime import datetime
from decimal import Decimal
from typing import Literal

from msgspec import Struct

from schemas.periods import BillingAnchor
from schemas.subscription_life import SubscriptionState

SubscriptionStatus = Literal["scheduled", "active", "cancelled", "ended"]


class SubscriptionSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`start_at` may lie in the past (each elapsed period is then billed in order) or ahead; default: now.

    `anniversary` periods count from the start, `calendar` ones from the start of the calendar unit.
    `timezone` defaults to the customer's. Nothing is charged before `trial_end_at`, and billing periods count from it.
    `quantities` are units by the key of a price without a meter.
    """

    customer: str
    plan: str
    start_at: datetime | None = None
    billing: BillingAnchor = "anniversary"
    timezone: str | None = None
    trial_end_at: datetime | None = None
    quantities: dict[str, Decimal] = {}


class Subscription(Struct, frozen=True, kw_only=True):
    """`closed_to` is where billing has got to; `next_close_at` the end of the period that is closed next.

    Plan, status and quantities are those in force; what is planned stands in the history. `resumes_at` is when a pause
    that holds ends by itself. `terms_revision` counts the changes in the history.
    """

    id: str
    customer_id: str
    plan_id: str
    plan_version_id: str
    status: SubscriptionState
    billing: BillingAnchor
    timezone: str
    start_at: datetime
    end_at: datetime | None
    trial_end_at: datetime | None = None
    resumes_at: datetime | None = None
    quantities: dict[str, Decimal] = {}
    addons: dict[str, int] = {}
    closed_to: datetime
    next_close_at: datetime | None
    terms_revision: int = 0
    revision: int
    created_at: datetime
