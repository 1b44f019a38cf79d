"""Usage of one meter: whole minutes from `usage_windows`, ragged edges from `events`, merged in one statement.

Reading at a cut C is `cut < C` on both (protocol 10), so the answer for a complete cutoff never changes. What windows do
not hold (percentiles, levels, sessions) is read from events, by the same rules.
"""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from domain.usage_questions import check_question
from domain.windows import cut_windows, moving_window, rolling_windows
from schemas.usage import TimeWindow, Usage, UsageQuery, UsageRow, UsageState
from stores.clickhouse.aggregates import (
    ALL_COLUMNS,
    COLUMNS_OF,
    merged_columns,
    state_of,
    value_of,
)
from stores.clickhouse.client import ClickhouseClient, Row
from stores.clickhouse.usage_conditions import MAX_ROWS, Parameters, bound_of, clipped, group_names, too_many_rows
from stores.clickhouse.usage_halves import partial_rows
from stores.clickhouse.usage_levels import level_usage
from stores.clickhouse.usage_rolling import rolling_rows
from stores.clickhouse.usage_sessions import session_rows


class UsageStore:
    """Reads; changes nothing."""

    def __init__(self, client: ClickhouseClient) -> None:
        self._client = client

    async def usage(self, query: UsageQuery) -> Usage:
        """Windows and total. Windows that tile the range are of one snapshot of the tables with it.

        Without `group_by` every window of the range has a row (but a session only where there was one), with it only
        those of groups that have usage. Raises Invalid `dimension_unknown`, `too_many_rows`, and those of
        `check_question` and `domain.windows`.
        """
        check_question(query)
        moving = moving_window(query.window)
        if moving is None:
            return await self._tiled(query)
        rows: Sequence[UsageRow]
        if moving.kind == "session":
            rows = await session_rows(self._client, query, moving.length)
        else:
            rows = await self._rolling(query, rolling_windows(query.start, query.end, moving.length))
        whole = await self._tiled(replace(query, window=None, group_by=()))
        return Usage(rows=tuple(rows), total=whole.total)

    async def total(self, query: UsageQuery) -> UsageState:
        """The aggregate over the whole range, with everything that windows know of it."""
        windows = cut_windows(query.start, query.end, None, query.timezone)
        found = await self._read(query, windows, ALL_COLUMNS)
        totals = [state_of(ALL_COLUMNS, row[:-1][-len(ALL_COLUMNS) :]) for row in found if row[-1]]
        return totals[0] if totals else UsageState()

    async def _rolling(self, query: UsageQuery, windows: Sequence[TimeWindow]) -> Sequence[UsageRow]:
        if not windows:
            return []
        if query.meter.aggregation == "weighted_sum":
            return (await level_usage(self._client, query, windows)).rows
        return await rolling_rows(self._client, query, windows)

    async def _tiled(self, query: UsageQuery) -> Usage:
        windows = cut_windows(query.start, query.end, query.window, query.timezone)
        if query.meter.aggregation == "weighted_sum":
            return await level_usage(self._client, query, windows)
        columns = COLUMNS_OF[query.meter.aggregation]
        return _answer(query, windows, columns, await self._read(query, windows, columns))

    async def _read(self, query: UsageQuery, windows: Sequence[TimeWindow], columns: Sequence[str]) -> Sequence[Row]:
        """Rows of (bucket, groups, merged columns, whether it is the total)."""
        start_ms, end_ms = clipped(query.start, query.end)
        if start_ms >= end_ms:
            return []
        parameters: Parameters = {}
        bounds = [bound_of(window.start) for window in windows]
        partials = partial_rows(query, self._client, bounds, (start_ms, end_ms), columns, parameters)
        names = ["bucket", *group_names(query)]
        sets = f"GROUPING SETS (({', '.join(names)}), ())"
        sql = (
            f"SELECT {', '.join(names)}, {merged_columns(columns)}, grouping(bucket) AS is_total "
            f"FROM ({partials}) GROUP BY {sets} ORDER BY is_total DESC LIMIT {MAX_ROWS + 1}"
        )
        found = await self._client.rows(sql, parameters)
        if len(found) > MAX_ROWS:
            raise too_many_rows()
        return found


def _answer(query: UsageQuery, windows: Sequence[TimeWindow], columns: Sequence[str], found: Sequence[Row]) -> Usage:
    aggregation = query.meter.aggregation
    by_bound = {bound_of(window.start): window for window in windows}
    groups = len(query.group_by)
    total = UsageState()
    rows: list[UsageRow] = []
    for bucket, *rest in found:
        state = state_of(columns, rest[groups:-1])
        if rest[-1]:
            total = state
            continue
        window = by_bound[bucket]
        dimensions = {name: text or None for name, text in zip(query.group_by, rest, strict=False)}
        rows.append(_row(window, state, query, dimensions))
    if not query.group_by:
        seen = {row.window_start for row in rows}
        rows += [_row(window, UsageState(), query, {}) for window in windows if window.start not in seen]
    rows.sort(key=lambda row: (row.window_start, [text or "" for text in row.dimensions.values()]))
    return Usage(rows=tuple(rows), total=value_of(total, aggregation))


def _row(window: TimeWindow, state: UsageState, query: UsageQuery, dimensions: Mapping[str, str | None]) -> UsageRow:
    return UsageRow(
        window_start=window.start,
        window_end=window.end,
        value=value_of(state, query.meter.aggregation),
        dimensions=dimensions,
    )
