"""The value of any aggregation over a range, from matches: the definition that everything faster is compared with."""

from collections.abc import Sequence
from decimal import Decimal

from domain.aggregates import fold, value
from domain.metering.levels import Change, weighted_sum
from domain.metering.matches import Placed, within
from domain.metering.percentiles import percentile
from schemas.measures import Measure


def measured(matches: Sequence[Placed], measure: Measure, start_ms: int, end_ms: int) -> Decimal | None:
    """The value of `measure` over `[start_ms, end_ms)` of event time, of one customer's matches of one meter.

    `matches` are by time (`matches_of` gives them so), each once; those outside the range count for nothing, but for the
    level that a `weighted_sum` carries into it. Of nothing: `count`, `unique_count` and `sum` are 0, the others None.
    A level belongs to a combination of values of all dimensions; levels of several add up.
    Raises Invalid `range_empty` (`weighted_sum`).
    """
    if measure.aggregation == "weighted_sum":
        return weighted_sum(list(levels_of(matches).values()), start_ms, end_ms, carry=measure.carry)
    inside = within(matches, start_ms, end_ms)
    if measure.aggregation == "percentile":
        return percentile((placed.match[1] for placed in inside if placed.match[1] is not None), measure.percent)
    return value(fold(inside), measure.aggregation)


def levels_of(matches: Sequence[Placed]) -> dict[tuple[str, ...], list[Change]]:
    """The changes of each level, by the values of the meter's dimensions."""
    levels: dict[tuple[str, ...], list[Change]] = {}
    for (_, level, _, dimensions), time_ms, _ in matches:
        if level is not None:
            levels.setdefault(dimensions, []).append((time_ms, level))
    return levels
