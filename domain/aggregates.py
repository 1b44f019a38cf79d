"""Aggregates as folds: `add` and `merge` give the same state under any split, order and grouping of the matches.

Each match is to be added once: duplicates are dropped by their position in the log before they come here.
"""

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction

from domain.meters import Match
from domain.money import EXACT, round_half_away
from domain.quantities import FRACTION_DIGITS
from schemas.deltas import Latest
from schemas.meters import AggregateState, Aggregation

EMPTY = AggregateState()

# Log time in ms, partition, offset, index in the record: breaks ties of event time in `latest`.
LogPosition = tuple[int, int, int, int]


def add(state: AggregateState, match: Match, time_ms: int, position: LogPosition) -> AggregateState:
    """`state` with one more match at event time `time_ms`."""
    return merge(state, single(match, time_ms, position))


def single(match: Match, time_ms: int, position: LogPosition) -> AggregateState:
    """The state of one match."""
    _, value, key, _ = match
    unique = frozenset((key,)) if key else frozenset[str]()
    if value is None:
        return AggregateState(matches=1, unique=unique)
    log_ms, partition, offset, index = position
    latest = Latest(time_ms=time_ms, log_ms=log_ms, partition=partition, offset=offset, index=index, value=value)
    return AggregateState(matches=1, values=1, total=value, lowest=value, highest=value, latest=latest, unique=unique)


def merge(left: AggregateState, right: AggregateState) -> AggregateState:
    """The state of the union of two disjoint sets of matches: associative, commutative, `EMPTY` is neutral."""
    return AggregateState(
        matches=left.matches + right.matches,
        values=left.values + right.values,
        total=EXACT.add(left.total, right.total),
        lowest=least(left.lowest, right.lowest),
        highest=greatest(left.highest, right.highest),
        latest=later(left.latest, right.latest),
        unique=left.unique | right.unique,
    )


def fold(matches: Iterable[tuple[Match, int, LogPosition]]) -> AggregateState:
    """The state of all matches, each with its event time in ms and its position."""
    state = EMPTY
    for match, time_ms, position in matches:
        state = add(state, match, time_ms, position)
    return state


def value(state: AggregateState, aggregation: Aggregation) -> Decimal | None:
    """The aggregate's value. Of nothing: `count`, `unique_count` and `sum` are 0, the others have none.

    `avg` is rounded half away from zero to 12 digits after the point. Raises ValueError for `weighted_sum` and
    `percentile`: no state of a set of matches has them (`domain.metering`).
    """
    match aggregation:
        case "count":
            return Decimal(state.matches)
        case "unique_count":
            return Decimal(len(state.unique))
        case "sum":
            return state.total
        case "avg":
            return average(state.total, state.values)
        case "latest":
            return state.latest.value if state.latest else None
        case "min" | "max":
            return state.lowest if aggregation == "min" else state.highest
        case "weighted_sum" | "percentile":
            raise ValueError(f"{aggregation} is read from events, not from a state")


def is_additive(aggregation: Aggregation) -> bool:
    """Whether the values of parts sum to the value of the whole."""
    return aggregation in ("count", "sum")


def average(total: Decimal, values: int) -> Decimal | None:
    """The mean of `values` values, to 12 digits after the point; None of nothing."""
    return round_half_away(Fraction(total) / values, FRACTION_DIGITS) if values else None


def least(left: Decimal | None, right: Decimal | None) -> Decimal | None:
    """The smaller one; None is nothing yet."""
    if left is None or right is None:
        return right if left is None else left
    return min(left, right)


def greatest(left: Decimal | None, right: Decimal | None) -> Decimal | None:
    """The larger one; None is nothing yet."""
    if left is None or right is None:
        return right if left is None else left
    return max(left, right)


def later(left: Latest | None, right: Latest | None) -> Latest | None:
    """The one of the later event time, then log position; None is nothing yet."""
    if left is None or right is None:
        return right if left is None else left
    return max(left, right)
