"""SQL of the aggregates that windows and raw events share, and their way back into our types.

Both halves of a usage query produce the same partial columns, which one outer query merges: so whole minutes from
`usage_windows` and ragged edges from `events` add up exactly, for every aggregation.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from msgspec import UNSET

from domain.aggregates import value
from schemas.deltas import Latest
from schemas.meters import AggregateState, Aggregation
from schemas.usage import UsageState

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

# A percentile is exact up to so many values; of more, it is that of those whose events hash lowest: the same ones always.
SAMPLE = 10_000
_SAMPLED = f"groupArraySortedMerge({SAMPLE})(percentile)"


class _Partial(NamedTuple):
    """From the matches `m` of events; from partial columns to one of the same kind; from those to what is read."""

    of_events: str
    joined: str
    merged: str


def _alike(of_events: str, merged: str) -> _Partial:
    return _Partial(of_events, merged, merged)


_PARTIALS = {
    "matches": _alike("count()", "sum(matches)"),
    "values": _alike("countIf(isNotNull(m.value))", "sum(values)"),
    "total": _alike("sum(toDecimal256(ifNull(m.value, toDecimal128(0, 12)), 12))", "sum(total)"),
    "lowest": _alike("min(m.value)", "min(lowest)"),
    "highest": _alike("max(m.value)", "max(highest)"),
    "latest": _alike(
        "maxIf((time, logged_at, partition, `offset`, `index`, assumeNotNull(m.value)), isNotNull(m.value))",
        "max(latest)",
    ),
    "uniques": _Partial(
        "uniqExactStateIf(m.unique_key, m.unique_key != '')", "uniqExactMergeState(uniques)", "uniqExactMerge(uniques)"
    ),
    # The smallest value that `percent` in a hundred do not exceed. No window holds it.
    "percentile": _Partial(
        f"groupArraySortedStateIf({SAMPLE})((identity, assumeNotNull(m.value)), isNotNull(m.value))",
        f"groupArraySortedMergeState({SAMPLE})(percentile)",
        f"arraySort(arrayMap(one -> one.2, {_SAMPLED}))[intDiv(length({_SAMPLED}) * {{percent:UInt8}} + 99, 100)]",
    ),
}
FROM_EVENTS_ALONE = frozenset({"percentile"})
ALL_COLUMNS = tuple(column for column in _PARTIALS if column not in FROM_EVENTS_ALONE)
# What each aggregation reads: exact unique counts and latest values are not touched by a query that needs neither.
COLUMNS_OF: dict[Aggregation, tuple[str, ...]] = {
    "count": ("matches",),
    "sum": ("matches", "total"),
    "min": ("values", "lowest"),
    "max": ("values", "highest"),
    "avg": ("values", "total"),
    "latest": ("values", "latest"),
    "unique_count": ("uniques",),
    "percentile": ("values", "percentile"),
}


def columns_of(aggregations: Iterable[Aggregation]) -> tuple[str, ...]:
    """What these aggregations read of windows, together, in the order of `ALL_COLUMNS`. None of them reads events alone."""
    read = {column for aggregation in aggregations for column in COLUMNS_OF[aggregation]}
    return tuple(column for column in ALL_COLUMNS if column in read)


def window_columns(columns: Sequence[str]) -> str:
    """Partial columns of rows of `usage_windows`."""
    return ", ".join(f"w.{column} AS {column}" for column in columns)


def event_columns(columns: Sequence[str]) -> str:
    """The same partial columns, aggregated over matches of `events`."""
    return ", ".join(f"{_PARTIALS[column].of_events} AS {column}" for column in columns)


def joined_columns(columns: Sequence[str]) -> str:
    """Partial columns of partial columns, named so that no alias hides a column it is computed from."""
    return ", ".join(f"{_PARTIALS[column].joined} AS joined_{column}" for column in columns)


def merged_columns(columns: Sequence[str]) -> str:
    """The merge of partial columns, aliased so that no alias hides a column it is computed from."""
    return ", ".join(f"{_PARTIALS[column].merged} AS merged_{column}" for column in columns)


def state_of(columns: Sequence[str], row: Sequence[Any]) -> UsageState:
    """The merged columns of one result row, in the order of `columns`."""
    found = dict(zip(columns, row, strict=True))
    latest = found.pop("latest", None)
    if latest is not None and found.get("values"):
        # The aggregate of nothing is the type's default, so it only counts where there was a value.
        found["latest"] = _latest(latest)
    return UsageState(**found)


def _latest(row: Sequence[Any]) -> Latest:
    time, logged_at, partition, offset, index, value = row
    return Latest(
        time_ms=epoch_ms(time), log_ms=epoch_ms(logged_at), partition=partition, offset=offset, index=index, value=value
    )


def value_of(state: UsageState, aggregation: Aggregation) -> Decimal | None:
    """`domain.aggregates.value` of what was read: of nothing, `count`, `unique_count` and `sum` are 0, others None.

    Raises ValueError for a level that was not read: `stores.clickhouse.levels_many` reads it.
    """
    match aggregation:
        case "unique_count":
            return Decimal(state.uniques)
        case "percentile":
            return state.percentile if state.values else None
        case "weighted_sum":
            if state.weighted is UNSET:
                raise ValueError("the level was not read")
            return state.weighted
        case _:
            return value(_folded(state), aggregation)


def _folded(state: UsageState) -> AggregateState:
    return AggregateState(
        matches=state.matches,
        values=state.values,
        total=state.total,
        lowest=state.lowest,
        highest=state.highest,
        latest=state.latest,
    )


def epoch_ms(at: datetime) -> int:
    """Milliseconds of the epoch, rounded up: `time < at` and `time >= at` stay right for stored milliseconds."""
    return -(-(at - EPOCH) // _MILLISECOND)


def whole_minutes(start_ms: int, end_ms: int) -> tuple[int, int]:
    """The whole minutes inside `[start_ms, end_ms)` as `[first, last)` in epoch seconds; empty when first >= last."""
    minute = 60_000
    return -(-start_ms // minute) * 60, end_ms // minute * 60


def ragged_edges(start_ms: int, end_ms: int) -> list[tuple[int, int]]:
    """What whole minutes leave of `[start_ms, end_ms)`: at most two ranges in milliseconds."""
    first, last = whole_minutes(start_ms, end_ms)
    if first >= last:
        return [(start_ms, end_ms)] if start_ms < end_ms else []
    edges = [(start_ms, first * 1000), (last * 1000, end_ms)]
    return [(start, end) for start, end in edges if start < end]
