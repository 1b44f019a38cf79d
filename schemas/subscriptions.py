"""Subscriptions: a customer holds a plan version from an instant on."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from schemas.periods import BillingAnchor

SubscriptionStatus = Literal["scheduled", "active", "cancelled", "ended"]


class SubscriptionSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`start_at` may lie in the past (each elapsed period is then billed in order) or ahead; default: now.

    `anniversary` periods count from the start, `calendar` ones from the start of the calendar unit.
    `timezone` defaults to the customer's.
    """

    customer: str
    plan: str
    start_at: datetime | None = None
    billing: BillingAnchor = "anniversary"
    timezone: str | None = None


class Subscription(Struct, frozen=True, kw_only=True):
    """`closed_to` is where billing has got to; `next_close_at` the end of the period that is closed next."""

    id: str
    customer_id: str
    plan_id: str
    plan_version_id: str
    status: SubscriptionStatus
    billing: BillingAnchor
    timezone: str
    start_at: datetime
    end_at: datetime | None
    closed_to: datetime
    next_close_at: datetime | None
    revision: int
    created_at: datetime
