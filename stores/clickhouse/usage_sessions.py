"""Sessions of one customer: runs of events, each less than a gap after the one before. Only events tell them apart."""

from collections.abc import Sequence
from datetime import timedelta

from domain.instants import instant
from domain.windows import MAX_WINDOWS, session_windows, too_many_windows
from schemas.usage import UsageQuery, UsageRow
from stores.clickhouse.aggregates import COLUMNS_OF, event_columns, merged_columns, state_of, value_of
from stores.clickhouse.client import ClickhouseClient, Row
from stores.clickhouse.usage_conditions import LAST_MS, Parameters, Span, clipped, group_names, grouped, of_events

_MS = timedelta(milliseconds=1)
_RANK = "at, logged_at, partition, `offset`, `index`"


async def session_rows(client: ClickhouseClient, query: UsageQuery, gap: timedelta) -> list[UsageRow]:
    """The value of each session that begins in the range: sessions are those of each group, by (start, group).

    Raises Invalid `dimension_unknown`, and those of `domain.windows.session_windows`.
    """
    session_windows((), query.start, query.end, gap)
    span, gap_ms = clipped(query.start, query.end), gap // _MS
    if span[0] >= span[1]:
        return []
    columns = COLUMNS_OF[query.meter.aggregation]
    # A session may go on after the range: it is read as far as until no event comes for the gap.
    beyond_ms = gap_ms
    while True:
        until_ms = min(span[1] + beyond_ms, LAST_MS)
        found = await _read(client, query, span, gap_ms, until_ms, columns)
        if until_ms == LAST_MS or all(last_ms + gap_ms <= until_ms for _, last_ms, *_ in found):
            break
        beyond_ms *= 4
    if len(found) > MAX_WINDOWS:
        raise too_many_windows()
    groups = len(query.group_by)
    return [
        UsageRow(
            window_start=instant(opened_ms),
            window_end=instant(last_ms + gap_ms),
            value=value_of(state_of(columns, rest[groups:]), query.meter.aggregation),
            dimensions={name: text or None for name, text in zip(query.group_by, rest, strict=False)},
        )
        for opened_ms, last_ms, *rest in found
    ]


async def _read(
    client: ClickhouseClient, query: UsageQuery, span: Span, gap_ms: int, until_ms: int, columns: Sequence[str]
) -> Sequence[Row]:
    """Rows of (first, last event in ms, groups, merged columns), of sessions that begin in `span`."""
    start_ms, end_ms = span
    parameters: Parameters = {"gap": gap_ms, "start": start_ms, "end": end_ms, "percent": query.meter.percent or 50}
    matched = [
        "time, logged_at, partition, `offset`, `index`, identity, m.value AS value, m.unique_key AS unique_key",
        "toUnixTimestamp64Milli(time) AS at",
        *grouped(query, "m.dimensions"),
    ]
    conditions = of_events(query, parameters, [(max(start_ms - gap_ms, 0), until_ms)])
    groups = group_names(query)
    partition = f"PARTITION BY {', '.join(groups)} " if groups else ""
    over = f"({partition}ORDER BY {_RANK} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
    names = ", ".join(["opened", "closed", *groups])
    sql = (
        f"SELECT {names}, {merged_columns(columns)} FROM ("
        f"SELECT min(m.at) AS opened, max(m.at) AS closed, {''.join(f'{one}, ' for one in groups)}"
        f"{event_columns(columns)} FROM ("
        f"SELECT *, sum(opens) OVER {over} AS session FROM ("
        f"SELECT *, at - lagInFrame(at, 1, toInt64(-{{gap:Int64}})) OVER {over} >= {{gap:Int64}} AS opens FROM ("
        f"SELECT {', '.join(matched)} FROM {client.reads('events')} AS e ARRAY JOIN e.matches AS m "
        f"WHERE {' AND '.join(conditions)}))) AS m "
        f"GROUP BY {', '.join(['session', *groups])} HAVING opened >= {{start:Int64}} AND opened < {{end:Int64}}) "
        f"GROUP BY {names} ORDER BY {', '.join(['opened', *groups])} LIMIT {MAX_WINDOWS + 1}"
    )
    return await client.rows(sql, parameters)
