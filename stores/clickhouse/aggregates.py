"""SQL of the aggregates that windows and raw events share, and their way back into our types.

Both halves of a usage query produce the same partial columns, which one outer query merges: so whole minutes from
`usage_windows` and ragged edges from `events` add up exactly, for every aggregation.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from domain.aggregates import value
from schemas.deltas import Latest
from schemas.meters import AggregateState, Aggregation
from schemas.usage import UsageState

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

# Column: (from one row of usage_windows, from the matches `m` of events, merging partial columns).
_PARTIALS = {
    "matches": ("matches", "count()", "sum(matches)"),
    "values": ("values", "countIf(isNotNull(m.value))", "sum(values)"),
    "total": ("total", "sum(toDecimal256(ifNull(m.value, toDecimal128(0, 12)), 12))", "sum(total)"),
    "lowest": ("lowest", "min(m.value)", "min(lowest)"),
    "highest": ("highest", "max(m.value)", "max(highest)"),
    "latest": (
        "latest",
        "maxIf((time, logged_at, partition, `offset`, `index`, assumeNotNull(m.value)), isNotNull(m.value))",
        "max(latest)",
    ),
    "uniques": ("uniques", "uniqExactStateIf(m.unique_key, m.unique_key != '')", "uniqExactMerge(uniques)"),
}
ALL_COLUMNS = tuple(_PARTIALS)
# What each aggregation reads: exact unique counts and latest values are not touched by a query that needs neither.
COLUMNS_OF: dict[Aggregation, tuple[str, ...]] = {
    "count": ("matches",),
    "sum": ("matches", "total"),
    "min": ("values", "lowest"),
    "max": ("values", "highest"),
    "avg": ("values", "total"),
    "latest": ("values", "latest"),
    "unique_count": ("uniques",),
}


def columns_of(aggregations: Iterable[Aggregation]) -> tuple[str, ...]:
    """What these aggregations read together, in the order of `ALL_COLUMNS`."""
    read = {column for aggregation in aggregations for column in COLUMNS_OF[aggregation]}
    return tuple(column for column in ALL_COLUMNS if column in read)


def window_columns(columns: Sequence[str]) -> str:
    """Partial columns of rows of `usage_windows`."""
    return ", ".join(f"w.{column} AS {column}" for column in columns)


def event_columns(columns: Sequence[str]) -> str:
    """The same partial columns, aggregated over matches of `events`."""
    return ", ".join(f"{_PARTIALS[column][1]} AS {column}" for column in columns)


def merged_columns(columns: Sequence[str]) -> str:
    """The merge of partial columns, aliased so that no alias hides a column it is computed from."""
    return ", ".join(f"{_PARTIALS[column][2]} AS merged_{column}" for column in columns)


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
    """`domain.aggregates.value` of what was read: of nothing, `count`, `unique_count` and `sum` are 0, others None."""
    if aggregation == "unique_count":
        return Decimal(state.uniques)
    folded = AggregateState(
        matches=state.matches,
        values=state.values,
        total=state.total,
        lowest=state.lowest,
        highest=state.highest,
        latest=state.latest,
    )
    return value(folded, aggregation)


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
