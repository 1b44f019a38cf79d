"""What a change would cost or give back, found without making it."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from domain.errors import Invalid
from domain.money import ZERO, total
from domain.subscriptions.fold import fold
from domain.subscriptions.history import record_change
from domain.subscriptions.segments import closed_at, segments
from domain.subscriptions.service_periods import plan_period_end
from domain.subscriptions.settlement import line_of, settle
from domain.subscriptions.standing import standing_at
from domain.subscriptions.terms import plan_at
from schemas.subscription_changes import ChangeRequest, History
from schemas.subscription_life import BookedFee, ChangePreview, FeeLine, Life, Sold

MAX_PERIODS_AHEAD = 1_000
_DAY = timedelta(days=1)
# No period of the unit is shorter.
_AT_LEAST: dict[str, timedelta] = {
    "hour": timedelta(hours=1),
    "day": 23 * timedelta(hours=1),
    "week": 6 * _DAY,
    "month": 28 * _DAY,
    "quarter": 89 * _DAY,
    "half_year": 180 * _DAY,
    "year": 364 * _DAY,
}


def preview(
    history: History,
    request: ChangeRequest,
    sold: Sold,
    now: datetime,
    booked: Sequence[BookedFee] = (),
    billed_to: datetime | None = None,
) -> ChangePreview:
    """The lines that there would be with `request` and are not without it. The history stays as it is.

    It looks to the end of the plan's billing period in which the change takes effect. What was billed in advance and
    holds no more is credited, never beyond what was paid; what holds instead is charged. In arrears, and for usage, the
    lines are those that will be due at the end of the period, for the spans as the change leaves them.
    `booked` are the lines that were booked for periods that have not ended by then. Raises what `record_change` raises.
    """
    recorded = record_change(history, request, sold, now, billed_to)
    before = fold(history) if history else recorded.life
    return difference(before, recorded.life, recorded.record.effective_at, sold, now, booked)


def check_reach(life: Life, sold: Sold, effective_at: datetime, now: datetime) -> None:
    """Each period up to the change is looked at. Raises Invalid `preview_too_far`."""
    cadence = sold.plans[plan_at(life, now).plan_version_id].cadence
    if effective_at - now > MAX_PERIODS_AHEAD * cadence.count * _AT_LEAST[cadence.unit]:
        message = f"a preview reaches {MAX_PERIODS_AHEAD} billing periods ahead: name an earlier `when`"
        raise Invalid("preview_too_far", message)


def difference(
    before: Life, after: Life, effective_at: datetime, sold: Sold, now: datetime, booked: Sequence[BookedFee] = ()
) -> ChangePreview:
    """`preview` of changes that were recorded already: what lies between two lives, which take apart at `effective_at`."""
    since, to = min(effective_at, now), max(effective_at, now)
    # At a boundary, the period that ends there is none that the change touches: `since` leaves it out.
    horizon = plan_period_end(after, sold, to) if after.start_at is not None else to
    without = set(_lines(before, sold, booked, since, to, horizon))
    lines = [line for line in _lines(after, sold, booked, since, to, horizon) if line not in without]
    return ChangePreview(
        effective_at=effective_at,
        state_before=standing_at(before, now).state,
        state_after=standing_at(after, to).state,
        currency=after.currency,
        lines=tuple(lines),
        due_now=_sum(line for line in lines if line.due_at <= now),
        total=_sum(lines),
    )


def _lines(
    life: Life, sold: Sold, booked: Sequence[BookedFee], since: datetime, to: datetime, horizon: datetime
) -> list[FeeLine]:
    return [*settle(life, sold, booked, since, to, horizon), *_usage_lines(life, sold, since, horizon)]


def _usage_lines(life: Life, sold: Sold, start: datetime, end: datetime) -> list[FeeLine]:
    """A line for each span of usage that is billed, whose amount is known when it has ended."""
    return [
        line_of(
            "usage",
            segment,
            segment.start,
            segment.end,
            whole_amount=ZERO,
            amount=None,
            due_at=closed_at(life, segment),
        )
        for segment in segments(life, sold, start, end)
        if segment.held.card.price.meter_id is not None and not segment.trial and not segment.paused
    ]


def _sum(lines: Iterable[FeeLine]) -> Decimal:
    return total([line.amount for line in lines if line.amount is not None])
