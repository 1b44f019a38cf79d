"""Usage of one meter: whole minutes from `usage_windows`, ragged edges from `events`, merged in one statement.

Reading at a cut C is `cut < C` on both (protocol 10), so the answer for a complete cutoff never changes.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from domain.errors import Invalid
from domain.windows import cut_windows
from schemas.meters import Meter
from schemas.usage import TimeWindow, Usage, UsageQuery, UsageRow, UsageState
from stores.clickhouse.aggregates import (
    ALL_COLUMNS,
    COLUMNS_OF,
    EPOCH,
    epoch_ms,
    event_columns,
    merged_columns,
    ragged_edges,
    state_of,
    value_of,
    whole_minutes,
    window_columns,
)
from stores.clickhouse.client import ClickhouseClient, Row

MAX_ROWS = 50_000
# What the tables' minutes can say; a range is clipped to it, since no event can lie outside.
_FIRST = EPOCH
_LAST = datetime(2106, 1, 1, tzinfo=UTC)


class UsageStore:
    """Reads; changes nothing."""

    def __init__(self, client: ClickhouseClient) -> None:
        self._client = client

    async def usage(self, query: UsageQuery) -> Usage:
        """Windows and total of one snapshot of the tables.

        Without `group_by` every window of the range has a row, with it only those of groups that have usage. Raises
        Invalid `dimension_unknown`, `too_many_rows` and those of `domain.windows.cut_windows`.
        """
        windows = cut_windows(query.start, query.end, query.window, query.timezone)
        sql, parameters, columns = _statement(query, windows, self._client)
        found = await self._client.rows(sql, parameters) if sql else []
        if len(found) > MAX_ROWS:
            raise Invalid("too_many_rows", f"the answer holds more than {MAX_ROWS} rows: ask for fewer groups")
        return _answer(query, windows, columns, found)

    async def total(self, query: UsageQuery) -> UsageState:
        """The aggregate over the whole range, with everything that is known of it."""
        windows = cut_windows(query.start, query.end, None, query.timezone)
        sql, parameters, columns = _statement(query, windows, self._client, ALL_COLUMNS)
        found = await self._client.rows(sql, parameters) if sql else []
        totals = [state_of(columns, row[:-1][-len(columns) :]) for row in found if row[-1]]
        return totals[0] if totals else UsageState()


def _statement(
    query: UsageQuery, windows: Sequence[TimeWindow], client: ClickhouseClient, columns: Sequence[str] | None = None
) -> tuple[str, dict[str, Any], Sequence[str]]:
    """(sql, parameters, columns); the sql is "" where the range lies outside of time."""
    read = columns or COLUMNS_OF[query.meter.aggregation]
    start_ms = max(epoch_ms(query.start), epoch_ms(_FIRST))
    end_ms = min(epoch_ms(query.end), epoch_ms(_LAST))
    if start_ms >= end_ms:
        return "", {}, read
    first, last = whole_minutes(start_ms, end_ms)
    edges = ragged_edges(start_ms, end_ms)
    groups = [_place(query.meter, name) for name in query.group_by]
    names = ["bucket", *(f"group_{place}" for place in groups)]
    parameters: dict[str, Any] = {
        "tenant": query.tenant,
        "environment": query.environment,
        "meter": query.meter.id,
        "generation": query.meter.generation,
        "first": first,
        "last": last,
        "edges": [list(edge) for edge in edges],
        "bounds": [max(epoch_ms(window.start) // 1000, 0) for window in windows],
    }
    where = [
        "tenant = {tenant:String}",
        "environment = {environment:String}",
        _customers(query.references, parameters),
        *([_cut(query.cut, parameters)] if query.cut is not None else []),
    ]
    halves = []
    if first < last:
        halves.append(_from_windows(query, client, where, groups, read, parameters))
    if edges:
        halves.append(_from_events(query, client, where, groups, read, parameters))
    sets = f"GROUPING SETS (({', '.join(names)}), ())"
    sql = (
        f"SELECT {', '.join(names)}, {merged_columns(read)}, grouping(bucket) AS is_total "
        f"FROM ({' UNION ALL '.join(halves)}) GROUP BY {sets} ORDER BY is_total DESC LIMIT {MAX_ROWS + 1}"
    )
    return sql, parameters, read


def _from_windows(
    query: UsageQuery,
    client: ClickhouseClient,
    where: Sequence[str],
    groups: Sequence[int],
    read: Sequence[str],
    parameters: dict[str, Any],
) -> str:
    conditions = [
        *where,
        "meter = {meter:String}",
        "generation = {generation:UInt32}",
        "minute >= toDateTime({first:UInt32}, 'UTC')",
        "minute < toDateTime({last:UInt32}, 'UTC')",
        *_filters(query, "w.dimensions", parameters),
    ]
    selected = ["roundDown(toUnixTimestamp(minute), {bounds:Array(UInt32)}) AS bucket"]
    selected += [f"w.dimensions[{place}] AS group_{place}" for place in groups]
    return (
        f"SELECT {', '.join(selected)}, {window_columns(read)} FROM {client.reads('usage_windows')} AS w "
        f"WHERE {' AND '.join(conditions)}"
    )


def _from_events(
    query: UsageQuery,
    client: ClickhouseClient,
    where: Sequence[str],
    groups: Sequence[int],
    read: Sequence[str],
    parameters: dict[str, Any],
) -> str:
    conditions = [
        *where,
        "m.meter = {meter:String}",
        "m.generation = {generation:UInt32}",
        _in_edges("time", parameters),
        *_filters(query, "m.dimensions", parameters),
    ]
    names = ["bucket", *(f"group_{place}" for place in groups)]
    selected = ["roundDown(toUInt32(toUnixTimestamp64Second(time)), {bounds:Array(UInt32)}) AS bucket"]
    selected += [f"m.dimensions[{place}] AS group_{place}" for place in groups]
    return (
        f"SELECT {', '.join(selected)}, {event_columns(read)} FROM {client.reads('events')} AS e "
        f"ARRAY JOIN e.matches AS m WHERE {' AND '.join(conditions)} GROUP BY {', '.join(names)}"
    )


def _in_edges(column: str, parameters: dict[str, Any]) -> str:
    edges = parameters.pop("edges")
    parts = []
    for place, (start, end) in enumerate(edges):
        parameters |= {f"edge_start_{place}": start, f"edge_end_{place}": end}
        parts.append(
            f"({column} >= fromUnixTimestamp64Milli({{edge_start_{place}:Int64}}, 'UTC') "
            f"AND {column} < fromUnixTimestamp64Milli({{edge_end_{place}:Int64}}, 'UTC'))"
        )
    return f"({' OR '.join(parts)})"


def _customers(references: Sequence[str] | None, parameters: dict[str, Any]) -> str:
    if references is None:
        return "1"
    parameters["references"] = list(references)
    return "customer IN {references:Array(String)}"


def _cut(cut: int, parameters: dict[str, Any]) -> str:
    parameters["cut"] = cut
    return "cut < {cut:UInt64}"


def _filters(query: UsageQuery, column: str, parameters: dict[str, Any]) -> list[str]:
    conditions = []
    for place, values in ((_place(query.meter, name), values) for name, values in sorted(query.filters.items())):
        parameters[f"filter_{place}"] = list(values)
        conditions.append(f"{column}[{place}] IN {{filter_{place}:Array(String)}}")
    return conditions


def _place(meter: Meter, dimension: str) -> int:
    """ClickHouse's arrays begin at 1."""
    if dimension not in meter.dimensions:
        known = ", ".join(meter.dimensions) or "none"
        raise Invalid("dimension_unknown", f"{dimension!r} is no dimension of the meter {meter.key!r} (it has {known})")
    return meter.dimensions.index(dimension) + 1


def _answer(query: UsageQuery, windows: Sequence[TimeWindow], columns: Sequence[str], found: Sequence[Row]) -> Usage:
    aggregation = query.meter.aggregation
    by_bound = {max(epoch_ms(window.start) // 1000, 0): window for window in windows}
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
