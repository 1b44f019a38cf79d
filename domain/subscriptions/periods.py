"""Which billing periods a subscription has, and where in its span an instant lies."""

from datetime import UTC, datetime

from domain.errors import Invalid
from domain.periods import billing_period_at, calendar_anchor
from schemas.periods import FOREVER, BillingAnchor, Cadence, Period
from schemas.subscriptions import SubscriptionStatus

EARLIEST_START = datetime(2000, 1, 1, tzinfo=UTC)


def validate_start(start_at: datetime) -> None:
    """Raises Invalid `time_without_zone`, `start_not_whole_seconds` (usage is counted per second: protocol 23), and
    `start_out_of_range`: every elapsed period is billed, so a slip of the year must not bill the Middle Ages.
    """
    if start_at.tzinfo is None:
        raise Invalid("time_without_zone", "start_at needs a zone, such as a final Z")
    if start_at.microsecond:
        raise Invalid("start_not_whole_seconds", "start_at lies on a whole second")
    if not EARLIEST_START <= start_at < FOREVER:
        raise Invalid(
            "start_out_of_range", f"start_at lies from {EARLIEST_START:%Y-%m-%d} to before {FOREVER:%Y-%m-%d}"
        )


def period_anchor(start_at: datetime, billing: BillingAnchor, cadence: Cadence, zone: str) -> datetime:
    """What every period boundary of the subscription is counted from."""
    return start_at if billing == "anniversary" else calendar_anchor(start_at, cadence, zone)


def period_to_close(
    *,
    start_at: datetime,
    end_at: datetime | None,
    billing: BillingAnchor,
    cadence: Cadence,
    zone: str,
    closed_to: datetime,
) -> Period | None:
    """The first period that is not closed yet, cut off at the subscription's end; None when nothing is left."""
    if end_at is not None and closed_to >= end_at:
        return None
    period = billing_period_at(start_at, billing, cadence, zone, closed_to)
    if end_at is not None and end_at < period.end:
        return Period(start=period.start, end=end_at, index=period.index)
    return period


def status_at(instant: datetime, start_at: datetime, end_at: datetime | None) -> SubscriptionStatus:
    """`cancelled` still runs, up to an end that is set; `ended` is past it."""
    if end_at is not None:
        return "ended" if instant >= end_at else "cancelled"
    return "active" if instant >= start_at else "scheduled"
