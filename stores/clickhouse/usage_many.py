"""Usage of many ranges in one statement: closings read windows at their cut, recounts read raw events at the same cut.

The ranges are a small table inside the statement (at most `MAX_RANGES`), joined on the reference; every range is merged
over all references of its customer in ClickHouse, so unique counts are exact across them.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from schemas.usage import UsageRange, UsageState
from stores.clickhouse.aggregates import (
    ALL_COLUMNS,
    epoch_ms,
    event_columns,
    merged_columns,
    ragged_edges,
    state_of,
    whole_minutes,
    window_columns,
)
from stores.clickhouse.client import ClickhouseClient

MAX_RANGES = 2_000
# Edges of periods lie together at the starts and at the ends: the events in between need not be read.
MAX_SPANS = 32
NEAR_S = 3_600

Source = Literal["windows", "events"]

# One entry per range, reference and piece of it: `[lower, upper)` in epoch seconds (windows) or milliseconds (events).
_Piece = tuple[int, str, str, int, int, int]


async def usage_of_many(
    client: ClickhouseClient,
    tenant: str,
    environment: str,
    ranges: Sequence[UsageRange],
    cut: int,
    columns: Sequence[str] = ALL_COLUMNS,
) -> list[UsageState]:
    """Usage of each range at cutoff `cut`, in order; nothing counted is the empty state, and so is a column not asked for.

    Whole minutes come from the windows, ragged edges from events. For a complete cutoff (`Cuts.wait_complete`) the
    answer is the same for ever.
    """
    return await _read(client, tenant, environment, ranges, cut, "windows", columns)


async def recount_of_many(
    client: ClickhouseClient,
    tenant: str,
    environment: str,
    ranges: Sequence[UsageRange],
    cut: int,
    columns: Sequence[str] = ALL_COLUMNS,
) -> list[UsageState]:
    """The same from raw events alone: what verifies `usage_of_many` before it is billed."""
    return await _read(client, tenant, environment, ranges, cut, "events", columns)


async def usage_at_positions(
    client: ClickhouseClient,
    tenant: str,
    environment: str,
    references: Sequence[str],
    meter_id: str,
    generation: int,
    *,
    start: datetime,
    end: datetime,
    cut_below: int,
    topic_id: str,
    vector: Mapping[int, int],
) -> UsageState:
    """`usage_of_many_at_positions` of one range."""
    one = UsageRange(meter_id=meter_id, generation=generation, references=tuple(references), start=start, end=end)
    found = await usage_of_many_at_positions(
        client, tenant, environment, [one], cut_below=cut_below, topic_id=topic_id, vector=vector
    )
    return found[0]


async def usage_of_many_at_positions(
    client: ClickhouseClient,
    tenant: str,
    environment: str,
    ranges: Sequence[UsageRange],
    *,
    cut_below: int,
    topic_id: str,
    vector: Mapping[int, int],
) -> list[UsageState]:
    """The states counters are seeded with (protocol 4, 10), in order: all blocks with `cut < cut_below`, from the
    windows, and of the later ones those up to `vector` (partition -> last done offset), from events.

    Read `cut_below`, and then `vector`, from the ledger before calling: every block below `cut_below` is done, so it lies
    within a vector that is read after it. The other way round, a block done in between is read though it lies beyond.
    """
    states: list[UsageState] = []
    for first in range(0, len(ranges), MAX_RANGES):
        some = ranges[first : first + MAX_RANGES]
        parameters: dict[str, Any] = {"tenant": tenant, "environment": environment, "cut": cut_below}
        halves = _halves(client, some, parameters, "windows", ALL_COLUMNS)
        parameters |= {
            "topic_id": topic_id,
            "partitions": list(vector),
            "offsets": list(vector.values()),
        }
        later = (
            "cut >= {cut:UInt64} AND topic_id = {topic_id:String} AND toInt64(`offset`) <= "
            "transform(partition, {partitions:Array(UInt16)}, {offsets:Array(Int64)}, toInt64(-1))"
        )
        pieces = [
            piece
            for place, one in enumerate(some)
            for piece in _pieces(place, one, [(epoch_ms(one.start), epoch_ms(one.end))])
        ]
        if vector and pieces:
            halves.append(_from_events(client, pieces, parameters, "later", later, ALL_COLUMNS))
        states += await _merged(client, halves, parameters, len(some), ALL_COLUMNS)
    return states


async def _read(
    client: ClickhouseClient,
    tenant: str,
    environment: str,
    ranges: Sequence[UsageRange],
    cut: int,
    source: Source,
    columns: Sequence[str],
) -> list[UsageState]:
    states: list[UsageState] = []
    for first in range(0, len(ranges), MAX_RANGES):
        some = ranges[first : first + MAX_RANGES]
        parameters: dict[str, Any] = {"tenant": tenant, "environment": environment, "cut": cut}
        halves = _halves(client, some, parameters, source, columns)
        states += await _merged(client, halves, parameters, len(some), columns)
    return states


async def _merged(
    client: ClickhouseClient,
    halves: Sequence[str],
    parameters: Mapping[str, Any],
    count: int,
    columns: Sequence[str],
) -> list[UsageState]:
    states = [UsageState()] * count
    if halves:
        sql = f"SELECT place, {merged_columns(columns)} FROM ({' UNION ALL '.join(halves)}) GROUP BY place"
        for place, *values in await client.rows(sql, parameters):
            states[place] = state_of(columns, values)
    return states


def _halves(
    client: ClickhouseClient,
    ranges: Sequence[UsageRange],
    parameters: dict[str, Any],
    source: Source,
    columns: Sequence[str],
) -> list[str]:
    from_windows: list[_Piece] = []
    from_events: list[_Piece] = []
    for place, one in enumerate(ranges):
        start, end = epoch_ms(one.start), epoch_ms(one.end)
        if source == "events":
            from_events += _pieces(place, one, [(start, end)])
        else:
            first, last = whole_minutes(start, end)
            from_windows += _pieces(place, one, [(first, last)])
            from_events += _pieces(place, one, ragged_edges(start, end))
    halves = []
    if from_windows:
        halves.append(_from_windows(client, from_windows, parameters, columns))
    if from_events:
        halves.append(_from_events(client, from_events, parameters, "edge", "cut < {cut:UInt64}", columns))
    return halves


def _pieces(place: int, one: UsageRange, spans: Sequence[tuple[int, int]]) -> list[_Piece]:
    return [
        (place, reference, one.meter_id, one.generation, lower, upper)
        for lower, upper in spans
        for reference in dict.fromkeys(one.references)
        if lower < upper
    ]


def _table(pieces: Sequence[_Piece], parameters: dict[str, Any], name: str) -> str:
    """The pieces as a table `p`, passed as one array parameter a column."""
    columns = (
        ("place", "UInt32"),
        ("reference", "String"),
        ("meter_id", "String"),
        ("meter_generation", "UInt32"),
        ("lower", "Int64"),
        ("upper", "Int64"),
    )
    arrays = []
    for position, (column, kind) in enumerate(columns):
        parameters[f"{name}_{column}"] = [piece[position] for piece in pieces]
        arrays.append(f"{{{name}_{column}:Array({kind})}} AS {column}")
    return f"(SELECT {', '.join(column for column, _ in columns)} FROM system.one ARRAY JOIN {', '.join(arrays)})"


def _spans(pieces: Sequence[_Piece], near: int) -> list[tuple[int, int]]:
    """What the pieces cover, with gaps shorter than `near` filled: a few spans that a primary key or a filter on time can
    use. One over everything where they would be many.
    """
    spans: list[tuple[int, int]] = []
    for lower, upper in sorted({piece[4:6] for piece in pieces}):
        if spans and lower - spans[-1][1] < near:
            spans[-1] = (spans[-1][0], max(spans[-1][1], upper))
        else:
            spans.append((lower, upper))
    if len(spans) <= MAX_SPANS:
        return spans
    return [(spans[0][0], max(upper for _, upper in spans))]


def _in_spans(
    pieces: Sequence[_Piece], parameters: dict[str, Any], name: str, column: str, instant: str, near: int
) -> str:
    """`column` lies in one of the spans of the pieces; `instant` makes an instant of a bound, `{}`."""
    parts = []
    for number, (lower, upper) in enumerate(_spans(pieces, near)):
        first, last = f"{name}_first_{number}", f"{name}_last_{number}"
        parameters |= {first: lower, last: upper}
        bounds = (instant.format(f"{{{bound}:Int64}}") for bound in (first, last))
        parts.append("({0} >= {1} AND {0} < {2})".format(column, *bounds))
    return f"({' OR '.join(parts)})"


def _from_windows(
    client: ClickhouseClient, pieces: Sequence[_Piece], parameters: dict[str, Any], columns: Sequence[str]
) -> str:
    table = _table(pieces, parameters, "whole")
    within = _in_spans(pieces, parameters, "whole", "w.minute", "toDateTime({}, 'UTC')", NEAR_S)
    return (
        f"SELECT p.place AS place, {window_columns(columns)} FROM {client.reads('usage_windows')} AS w "
        f"INNER JOIN {table} AS p ON w.customer = p.reference AND w.meter = p.meter_id "
        "AND w.generation = p.meter_generation "
        "WHERE w.tenant = {tenant:String} AND w.environment = {environment:String} AND w.cut < {cut:UInt64} "
        "AND w.meter IN {whole_meter_id:Array(String)} AND w.generation IN {whole_meter_generation:Array(UInt32)} "
        "AND w.customer IN {whole_reference:Array(String)} "
        f"AND {within} "
        "AND toUnixTimestamp(w.minute) >= p.lower AND toUnixTimestamp(w.minute) < p.upper"
    )


def _from_events(
    client: ClickhouseClient,
    pieces: Sequence[_Piece],
    parameters: dict[str, Any],
    name: str,
    condition: str,
    columns: Sequence[str],
) -> str:
    table = _table(pieces, parameters, name)
    within = _in_spans(pieces, parameters, name, "time", "fromUnixTimestamp64Milli({}, 'UTC')", NEAR_S * 1000)
    matched = (
        "SELECT customer, time, logged_at, partition, `offset`, `index`, m.meter AS meter_id, "
        f"m.generation AS meter_generation, m.value AS value, m.unique_key AS unique_key "
        f"FROM {client.reads('events')} AS e ARRAY JOIN e.matches AS m "
        "WHERE tenant = {tenant:String} AND environment = {environment:String} "
        f"AND customer IN {{{name}_reference:Array(String)}} AND m.meter IN {{{name}_meter_id:Array(String)}} "
        f"AND {within} AND {condition}"
    )
    return (
        f"SELECT p.place AS place, {event_columns(columns)} FROM ({matched}) AS m "
        f"INNER JOIN {table} AS p ON m.customer = p.reference AND m.meter_id = p.meter_id "
        "AND m.meter_generation = p.meter_generation "
        "WHERE toUnixTimestamp64Milli(m.time) >= p.lower AND toUnixTimestamp64Milli(m.time) < p.upper GROUP BY place"
    )
