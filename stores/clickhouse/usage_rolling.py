"""Rolling windows: minutes are put together once between the edges of all windows, and then for each window anew."""

from collections.abc import Sequence

from schemas.usage import TimeWindow, UsageQuery, UsageRow, UsageState
from stores.clickhouse.aggregates import COLUMNS_OF, epoch_ms, joined_columns, merged_columns, state_of, value_of
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.usage_conditions import MAX_ROWS, Parameters, bounds_of, clipped, group_names, too_many_rows
from stores.clickhouse.usage_halves import partial_rows

Group = tuple[str, ...]


async def rolling_rows(client: ClickhouseClient, query: UsageQuery, windows: Sequence[TimeWindow]) -> list[UsageRow]:
    """The value of each of `windows`, as `domain.windows.rolling_windows` gives them, at least one.

    Without `group_by` every window has a row, with it those of groups that have usage in it.
    Raises Invalid `dimension_unknown`, `too_many_rows`.
    """
    columns = COLUMNS_OF[query.meter.aggregation]
    found = await _read(client, query, windows, columns)
    if not query.group_by:
        found |= {(place, ()): UsageState() for place in range(len(windows)) if (place, ()) not in found}
    return [
        UsageRow(
            window_start=windows[place].start,
            window_end=windows[place].end,
            value=value_of(state, query.meter.aggregation),
            dimensions={name: text or None for name, text in zip(query.group_by, group, strict=True)},
        )
        for (place, group), state in sorted(found.items(), key=lambda one: one[0])
    ]


async def _read(
    client: ClickhouseClient, query: UsageQuery, windows: Sequence[TimeWindow], columns: Sequence[str]
) -> dict[tuple[int, Group], UsageState]:
    """By the place of the window and the group."""
    start_ms, end_ms = clipped(windows[0].start, windows[-1].end)
    if start_ms >= end_ms:
        return {}
    length = windows[0].end - windows[0].start
    parameters: Parameters = {
        "windows": len(windows),
        "first_end": epoch_ms(windows[0].end) // 1000,
        "length": length.days * 86_400 + length.seconds,
    }
    partials = partial_rows(query, client, bounds_of(windows), (start_ms, end_ms), columns, parameters)
    groups = group_names(query)
    sql = (
        f"SELECT {', '.join(['place', *groups])}, {merged_columns(columns)} "
        f"FROM (SELECT {', '.join([_PLACES, *groups])}, {', '.join(f'joined_{one} AS {one}' for one in columns)} "
        f"FROM (SELECT {', '.join(['bucket', *groups])}, {joined_columns(columns)} "
        f"FROM ({partials}) GROUP BY {', '.join(['bucket', *groups])})) "
        f"GROUP BY {', '.join(['place', *groups])} LIMIT {MAX_ROWS + 1}"
    )
    found = await client.rows(sql, parameters)
    if len(found) > MAX_ROWS:
        raise too_many_rows()
    return {(place, tuple(rest[: len(groups)])): state_of(columns, rest[len(groups) :]) for place, *rest in found}


# The windows that a bucket lies in: each ends a minute after the one before, and none ends or begins inside of a bucket.
_ENDED = "intDiv(toInt64(bucket) - {first_end:Int64}, 60) + 1"
_PLACES = (
    f"arrayJoin(range(toUInt32(greatest(0, {_ENDED})), toUInt32(greatest(0, least({{windows:Int64}}, "
    "intDiv(toInt64(bucket) + {length:Int64} - {first_end:Int64}, 60) + 1))))) AS place"
)
