"""Which periods can be billed, from what, and what stops an invoice."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby

from domain.errors import Conflict, Invalid, MeterstreamError
from domain.invoices import assemble_invoice, finalize
from domain.periods import boundary
from domain.subscriptions import period_anchor, period_to_close
from schemas.billing import BilledPart
from schemas.closing import BatchClosed, ClosableSubscription, ClosingProgress, DuePage, DuePeriod, FailedPeriod
from schemas.invoices import Invoice
from schemas.periods import Cadence, Period


def closable_before(now: datetime, grace_s: int, as_of: datetime) -> datetime:
    """A period that ends at this instant or before can be closed: its grace has passed, and every event that was
    accepted before its end is counted (protocol 26).
    """
    return min(now - timedelta(seconds=grace_s), as_of)


def next_period(held: ClosableSubscription, closed_to: datetime) -> Period | None:
    """The first period from `closed_to` on; None when nothing is left to bill."""
    return period_to_close(
        start_at=held.start_at,
        end_at=held.end_at,
        billing=held.billing,
        cadence=Cadence(unit=held.cadence),
        zone=held.timezone,
        closed_to=closed_to,
    )


def due_periods(held: ClosableSubscription, before: datetime, limit: int) -> list[DuePeriod]:
    """The first `limit` periods, in order, that are not closed and end at `before` or earlier."""
    due: list[DuePeriod] = []
    closed_to = held.closed_to
    while len(due) < limit:
        period = next_period(held, closed_to)
        if period is None or period.end > before:
            break
        due.append(DuePeriod(subscription_id=held.id, start=period.start, end=period.end))
        closed_to = period.end
    return due


def still_due(
    held: Mapping[str, ClosableSubscription], periods: Sequence[DuePeriod]
) -> tuple[list[DuePeriod], tuple[str, ...]]:
    """Those of `periods`, in order by subscription, that are the next ones of their subscriptions as they are `held` now;
    and the subscriptions of the others: they were closed or changed since their periods were listed.
    """
    left: list[DuePeriod] = []
    overtaken: list[str] = []
    for subscription_id, listed in groupby(periods, key=lambda period: period.subscription_id):
        wanted = list(listed)
        if _is_due(held[subscription_id], wanted):
            left += wanted
        else:
            overtaken.append(subscription_id)
    return left, tuple(overtaken)


def _is_due(held: ClosableSubscription, periods: list[DuePeriod]) -> bool:
    try:
        return due_periods(held, periods[-1].end, len(periods)) == periods
    except MeterstreamError:  # its periods cannot be told any more: the next run says why
        return False


def due_page(
    found: Sequence[ClosableSubscription], before: datetime, size: int, after: str
) -> tuple[DuePage, list[FailedPeriod]]:
    """Up to `size` due periods of `found`: the first `size` due subscriptions whose ids follow `after`, by id.

    Besides, those whose periods cannot be told (a time zone that is gone): they are passed over.
    """
    periods: list[DuePeriod] = []
    failed: list[FailedPeriod] = []
    for held in found:
        room = size - len(periods)
        if not room:
            return DuePage(periods=tuple(periods), after=after, is_last=False), failed
        try:
            due = due_periods(held, before, room + 1)
        except Invalid as error:
            due = []
            failed.append(_untold(held, error))
        periods += due[:room]
        if len(due) > room:
            return DuePage(periods=tuple(periods), after=after, partial=held.id, is_last=False), failed
        after = held.id
    return DuePage(periods=tuple(periods), after=after, is_last=len(found) < size), failed


def _untold(held: ClosableSubscription, error: Invalid) -> FailedPeriod:
    return FailedPeriod(
        subscription_id=held.id,
        start=held.closed_to,
        end=held.next_close_at or held.closed_to,
        code=error.code,
        message=error.message,
    )


def advanced(progress: ClosingProgress, page: DuePage, closed: BatchClosed) -> ClosingProgress:
    """Where the run goes on: at the subscription that is listed in part, unless it is stopped for this run."""
    return ClosingProgress(
        cutoff=progress.cutoff,
        after=page.partial if page.partial in closed.stopped else page.after,
        billed=progress.billed + closed.billed,
        stopped=progress.stopped + len(closed.stopped),
    )


def check_recount(meter_id: str, counted: Decimal | None, recounted: Decimal | None) -> None:
    """Raises Conflict `recount_differs` when windows and raw events disagree at one cutoff: such usage is not billed."""
    if counted != recounted:
        message = f"meter {meter_id}: windows hold {counted}, events at the same cutoff {recounted}"
        raise Conflict("recount_differs", message)


def bill_period(
    *,
    invoice_id: str,
    line_ids: Sequence[str],
    held: ClosableSubscription,
    currency: str,
    parts: Sequence[BilledPart],
    period: DuePeriod,
    cut: int,
) -> Invoice:
    """The finalized invoice of one period; `parts` as for `assemble_invoice`, which also says what is raised."""
    draft = assemble_invoice(
        invoice_id=invoice_id,
        line_ids=line_ids,
        customer_id=held.customer_id,
        subscription_id=held.id,
        currency=currency,
        period_start=period.start,
        period_end=period.end,
        cut=cut,
        parts=parts,
        whole=whole_period(held, period),
    )
    return finalize(draft)


def whole_period(held: ClosableSubscription, period: DuePeriod) -> Period:
    """The full billing period that `period` is, or is a part of: fees are for the whole (semantics, time)."""
    cadence = Cadence(unit=held.cadence)
    origin = period_anchor(held.start_at, held.billing, cadence, held.timezone)
    if period.start < origin:
        return Period(start=boundary(origin, cadence, held.timezone, -1), end=origin, index=-1)
    uncut = period_to_close(
        start_at=held.start_at,
        end_at=None,
        billing=held.billing,
        cadence=cadence,
        zone=held.timezone,
        closed_to=period.start,
    )
    if uncut is None:
        raise ValueError("a subscription without an end has a period at every instant")
    return uncut
