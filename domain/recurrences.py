"""Recurrences that change: which usage period holds an instant, and when usage is reset (semantics, time and credits)."""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from domain.errors import Invalid
from domain.periods import period_at, periods_between
from schemas.periods import Cadence, Period, Recurrence

_MICROSECOND = timedelta(microseconds=1)


def boundary_before(anchor: datetime, cadence: Cadence, zone: str, instant: datetime, *, inclusive: bool) -> datetime:
    """The last boundary before `instant`, or at it where `inclusive`. Raises as `domain.periods.period_at`."""
    return period_at(anchor, cadence, zone, instant if inclusive else instant - _MICROSECOND).start


def boundary_after(anchor: datetime, cadence: Cadence, zone: str, instant: datetime, *, inclusive: bool) -> datetime:
    """The first boundary after `instant`, or at it where `inclusive`. Raises as `domain.periods.period_at`."""
    return period_at(anchor, cadence, zone, instant - _MICROSECOND if inclusive else instant).end


def usage_period_at(recurrences: Sequence[Recurrence], instant: datetime) -> Period:
    """The usage period that holds `instant`: of the last recurrence in effect by then, cut off where it came into
    effect and where the next one does. An instant before the first recurrence is given its first period.

    `index` counts from the anchor of its recurrence. Raises Invalid `recurrences_not_ascending` (or there is none),
    and as `domain.periods.period_at`.
    """
    _check(recurrences)
    place = max(bisect_right([one.effective_at for one in recurrences], instant) - 1, 0)
    recurrence = recurrences[place]
    period = period_at(recurrence.anchor, recurrence.cadence, recurrence.zone, max(instant, recurrence.effective_at))
    ends = [period.end, *(following.effective_at for following in recurrences[place + 1 : place + 2])]
    return Period(start=max(period.start, recurrence.effective_at), end=min(ends), index=period.index)


def resets_between(recurrences: Sequence[Recurrence], start: datetime, end: datetime) -> list[datetime]:
    """When a usage period begins in `[start, end)`, in order: where a recurrence comes into effect, and at each of its
    boundaries until the next one does. Raises Invalid `recurrences_not_ascending`, and as `domain.periods.period_at`.
    """
    _check(recurrences)
    resets: list[datetime] = []
    ends = [*(one.effective_at for one in recurrences[1:]), end]
    for recurrence, replaced_at in zip(recurrences, ends, strict=True):
        first, last = max(recurrence.effective_at, start), min(replaced_at, end)
        periods = periods_between(recurrence.anchor, recurrence.cadence, recurrence.zone, first, last)
        starts = (max(period.start, recurrence.effective_at) for period in periods)
        resets += [at for at in starts if at >= start]
    return resets


def _check(recurrences: Sequence[Recurrence]) -> None:
    ascending = all(earlier.effective_at < later.effective_at for earlier, later in pairwise(recurrences))
    if not recurrences or not ascending:
        raise Invalid("recurrences_not_ascending", "recurrences come into effect one after another, one at least")
