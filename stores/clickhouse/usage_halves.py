"""The partial columns of a range, by bucket and group: whole minutes from windows, the rest from events.

Where windows do not hold what is asked for, all of it comes from events.
"""

from collections.abc import Sequence

from schemas.usage import UsageQuery
from stores.clickhouse.aggregates import FROM_EVENTS_ALONE, event_columns, ragged_edges, whole_minutes, window_columns
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.usage_conditions import Parameters, Span, group_names, grouped, of_events, of_windows


def partial_rows(
    query: UsageQuery,
    client: ClickhouseClient,
    bounds: Sequence[int],
    span: Span,
    columns: Sequence[str],
    parameters: Parameters,
) -> str:
    """A statement of rows (bucket, groups, partial columns) of `span`, which is not empty. `bounds` are the seconds at
    which buckets begin, the first one at the span's start or before it.
    """
    parameters |= {"bounds": list(bounds), "percent": query.meter.percent or 50}
    from_events = not FROM_EVENTS_ALONE.isdisjoint(columns)
    first, last = (0, 0) if from_events else whole_minutes(*span)
    halves = []
    if first < last:
        halves.append(_from_windows(query, client, first, last, columns, parameters))
    edges = [span] if from_events else ragged_edges(*span)
    if edges:
        halves.append(_from_events(query, client, edges, columns, parameters))
    return " UNION ALL ".join(halves)


def _from_windows(
    query: UsageQuery,
    client: ClickhouseClient,
    first: int,
    last: int,
    columns: Sequence[str],
    parameters: Parameters,
) -> str:
    selected = [
        "roundDown(toUnixTimestamp(minute), {bounds:Array(UInt32)}) AS bucket",
        *grouped(query, "w.dimensions"),
        window_columns(columns),
    ]
    conditions = of_windows(query, parameters, first, last)
    return f"SELECT {', '.join(selected)} FROM {client.reads('usage_windows')} AS w WHERE {' AND '.join(conditions)}"


def _from_events(
    query: UsageQuery,
    client: ClickhouseClient,
    edges: Sequence[Span],
    columns: Sequence[str],
    parameters: Parameters,
) -> str:
    selected = [
        "roundDown(toUInt32(toUnixTimestamp64Second(time)), {bounds:Array(UInt32)}) AS bucket",
        *grouped(query, "m.dimensions"),
        event_columns(columns),
    ]
    conditions = of_events(query, parameters, edges)
    names = ["bucket", *group_names(query)]
    return (
        f"SELECT {', '.join(selected)} FROM {client.reads('events')} AS e "
        f"ARRAY JOIN e.matches AS m WHERE {' AND '.join(conditions)} GROUP BY {', '.join(names)}"
    )
