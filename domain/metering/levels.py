"""`weighted_sum`: a level that holds until it is set again, weighed by time (semantics, quantities and usage).

The sum of level x seconds over a range, divided by the seconds of the range. A change sets the level, it does not add to
it. Times are milliseconds, so every product is exact.
"""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from domain.errors import Invalid
from domain.money import EXACT, ZERO, round_half_away
from domain.quantities import FRACTION_DIGITS

# (event time in ms, the level from then on), by time; of one time the last one holds.
Change = tuple[int, Decimal]

_MILLI = Decimal("0.001")


def level_at(changes: Sequence[Change], at_ms: int) -> Decimal | None:
    """The level just before `at_ms`: set by the last earlier change; None where there is none."""
    level = None
    for time_ms, value in changes:
        if time_ms >= at_ms:
            break
        level = value
    return level


def level_seconds(changes: Sequence[Change], start_ms: int, end_ms: int) -> Decimal:
    """The exact sum of level x seconds over `[start_ms, end_ms)`; before the first change the level is 0.

    Sums of ranges that follow each other add up to that of the whole. Raises Invalid `range_empty`.
    """
    _check(start_ms, end_ms)
    level, since = ZERO, start_ms
    area = ZERO
    for time_ms, value in changes:
        if time_ms >= end_ms:
            break
        if time_ms > since:
            area = EXACT.add(area, EXACT.multiply(level, Decimal(time_ms - since)))
            since = time_ms
        level = value
    area = EXACT.add(area, EXACT.multiply(level, Decimal(end_ms - since)))
    return EXACT.multiply(area, _MILLI)


def weighted_sum(
    series: Sequence[Sequence[Change]], start_ms: int, end_ms: int, *, carry: bool = True
) -> Decimal | None:
    """The time-weighted level over `[start_ms, end_ms)`, rounded half away from zero to 12 digits after the point.

    Each of `series` has a level of its own (`changes` by time), and their averages add up. `carry` begins with the level
    that was set before the range, else it begins with 0. None where no change says anything of the range.
    Raises Invalid `range_empty`.
    """
    _check(start_ms, end_ms)
    told = [
        [change for change in changes if change[0] < end_ms and (carry or change[0] >= start_ms)] for changes in series
    ]
    if not any(told):
        return None
    area = ZERO
    for changes in told:
        area = EXACT.add(area, level_seconds(changes, start_ms, end_ms))
    return round_half_away(Fraction(area) * 1000 / (end_ms - start_ms), FRACTION_DIGITS)


def _check(start_ms: int, end_ms: int) -> None:
    if end_ms <= start_ms:
        raise Invalid("range_empty", "a range ends after it starts")
