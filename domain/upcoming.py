"""The upcoming invoice: what the running period of a subscription comes to so far, by the code that will close it."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import count

from domain.billing import bill
from domain.closing import next_period
from domain.errors import Conflict
from domain.late_usage import adjusted
from schemas.billing import BilledMeter, Contracts, Counted
from schemas.closing import ClosableSubscription, Cutoff, DuePeriod
from schemas.invoices import UpcomingInvoice
from schemas.late_usage import LateMeter, LateUsage

_MOMENT = timedelta(microseconds=1)


def running_period(held: ClosableSubscription, now: datetime) -> DuePeriod:
    """The billing period that holds `now`: of a subscription that is to start its first one, of one that has ended its
    last one. What is billed already is not in it. Raises Conflict `nothing_to_bill`.
    """
    at = max(held.start_at, now)
    if held.end_at is not None:
        at = min(at, held.end_at - _MOMENT)
    period = next_period(held, max(held.closed_to, at))
    if period is None:
        raise Conflict("nothing_to_bill", "the subscription has ended and all its periods are billed: see its invoices")
    return DuePeriod(subscription_id=held.id, start=period.start, end=period.end)


def upcoming(
    contracts: Contracts,
    period: DuePeriod,
    usage: Mapping[BilledMeter, Counted],
    late: LateUsage,
    late_usage: Mapping[LateMeter, Counted],
    cutoff: Cutoff,
) -> UpcomingInvoice:
    """What closing `period` with this usage would bill, with adjustments of earlier ones. Raises Conflict with the code
    of what would stop the closing.
    """
    numbers = count(1)

    def new_id(prefix: str) -> str:
        return f"{prefix}_upcoming_{next(numbers)}"

    billing = bill(contracts, [period], usage, cutoff.cut, new_id)
    billing = adjusted(billing, late, late_usage, new_id)
    if billing.failed is not None:
        raise Conflict(billing.failed.code, billing.failed.message)
    [invoice] = billing.invoices
    return UpcomingInvoice(
        customer_id=invoice.customer_id,
        subscription_id=invoice.subscription_id,
        currency=invoice.currency,
        period_start=invoice.period_start,
        period_end=invoice.period_end,
        cut=cutoff.cut,
        as_of=cutoff.as_of,
        lines=invoice.lines,
        subtotal=invoice.subtotal,
        total=invoice.total,
        amount_due=invoice.amount_due,
    )
