"""Usage of many ranges in one statement: closings read windows at their cut, recounts read raw events at the same cut.

The ranges are a small table inside the statement, joined on the reference; every range is merged over all references of
its customer in ClickHouse, so unique counts are exact across them.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from schemas.scope import Scope
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

# A server takes 128 KiB as one parameter.
MAX_PARAMETER_BYTES = 90_000
_RANGE_BYTES = 150
# Edges of periods lie together at the starts and at the ends: the events in between need not be read.
MAX_SPANS = 32
NEAR_S = 3_600

Source = Literal["windows", "events"]

Spans = Sequence[tuple[int, int]]
# Place, tenant, environment, meter, generation, references, and what is read: `[lower, upper)` in epoch seconds (windows) or
# milliseconds (events).
Piece = tuple[int, str, str, str, int, Sequence[str], Spans]
_PIECES = "Array(Tuple(UInt32, String, String, String, UInt32, Array(String), Array(Tuple(Int64, Int64))))"
Scoped = tuple[Scope, UsageRange]


async def usage_of_many(
    client: ClickhouseClient, ranges: Sequence[Scoped], cut: int, columns: Sequence[str] = ALL_COLUMNS
) -> list[UsageState]:
    """Usage of each range at cutoff `cut`, in order; nothing counted is the empty state, and so is a column not asked for.

    Whole minutes come from the windows, ragged edges from events. For a complete cutoff (`Cuts.wait_complete`) the
    answer is the same for ever.
    """
    return await _read(client, ranges, cut, "windows", columns)


async def recount_of_many(
    client: ClickhouseClient, ranges: Sequence[Scoped], cut: int, columns: Sequence[str] = ALL_COLUMNS
) -> list[UsageState]:
    """The same from raw events alone: what verifies `usage_of_many` before it is billed."""
    return await _read(client, ranges, cut, "events", columns)


async def late_hours_of_many(
    client: ClickhouseClient, ranges: Sequence[Scoped], since: Sequence[int], cut: int
) -> list[frozenset[int]]:
    """For each range, in order, the hours of the epoch with minutes that were counted from its `since` on and below `cut`.

    Only keys are read, no aggregates. A ragged edge belongs to the range with its whole minute, so an hour may be told
    whose usage lies just outside of it.
    """
    hours: list[frozenset[int]] = []
    for some in parts_of(ranges):
        pieces = pieces_of(some, [[_minutes_around(one)] for _, one in some])
        wanted = list(since[len(hours) : len(hours) + len(some)])
        found = dict.fromkeys(range(len(some)), frozenset[int]())
        if pieces:
            parameters: dict[str, Any] = {"cut": cut, "since": wanted, "oldest": min(wanted)}
            sql = (
                "SELECT p.place AS place, groupUniqArray(intDiv(toUnixTimestamp(w.minute), 3600)) AS hours "
                f"{of_windows(client, pieces, parameters)} AND w.cut >= {{oldest:UInt64}} "
                "AND w.cut >= {since:Array(UInt64)}[p.place + 1] GROUP BY place"
            )
            found |= {place: frozenset(late) for place, late in await client.rows(sql, parameters)}
        hours += found.values()
    return hours


def _minutes_around(one: UsageRange) -> tuple[int, int]:
    """The minutes that hold anything of the range, in epoch seconds."""
    return epoch_ms(one.start) // 60_000 * 60, -(-epoch_ms(one.end) // 60_000) * 60


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
    scope = Scope(tenant, environment)
    for some in parts_of([(scope, one) for one in ranges]):
        parameters: dict[str, Any] = {"cut": cut_below}
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
        pieces = pieces_of(some, [_bounds(one) for _, one in some])
        if vector and pieces:
            halves.append(_from_events(client, pieces, parameters, "later", later, ALL_COLUMNS))
        states += await _merged(client, halves, parameters, len(some), ALL_COLUMNS)
    return states


async def _read(
    client: ClickhouseClient,
    ranges: Sequence[Scoped],
    cut: int,
    source: Source,
    columns: Sequence[str],
) -> list[UsageState]:
    states: list[UsageState] = []
    for some in parts_of(ranges):
        parameters: dict[str, Any] = {"cut": cut}
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
    ranges: Sequence[Scoped],
    parameters: dict[str, Any],
    source: Source,
    columns: Sequence[str],
) -> list[str]:
    bounds = [_bounds(one) for _, one in ranges]
    whole: list[Spans] = [[] if source == "events" else [whole_minutes(*each) for each in some] for some in bounds]
    rest: list[Spans] = [
        some if source == "events" else [edge for each in some for edge in ragged_edges(*each)] for some in bounds
    ]
    from_windows, from_events = pieces_of(ranges, whole), pieces_of(ranges, rest)
    halves = []
    if from_windows:
        halves.append(_from_windows(client, from_windows, parameters, columns))
    if from_events:
        halves.append(_from_events(client, from_events, parameters, "edge", "cut < {cut:UInt64}", columns))
    return halves


def _bounds(one: UsageRange) -> list[tuple[int, int]]:
    """In milliseconds of the epoch."""
    return [(epoch_ms(start), epoch_ms(end)) for start, end in one.spans or [(one.start, one.end)]]


def parts_of(ranges: Sequence[Scoped]) -> Iterator[Sequence[Scoped]]:
    """As many of `ranges` at a time as fit into a parameter, in order."""
    first, size = 0, 0
    for place, (scope, one) in enumerate(ranges):
        weight = _RANGE_BYTES + len(msgspec.json.encode((scope, one.references, one.spans)))
        if place > first and size + weight > MAX_PARAMETER_BYTES:
            yield ranges[first:place]
            first, size = place, 0
        size += weight
    if ranges:
        yield ranges[first:]


def pieces_of(ranges: Sequence[Scoped], spans: Sequence[Spans]) -> list[Piece]:
    """Those with anything to read."""
    pieces: list[Piece] = []
    for place, ((scope, one), wanted) in enumerate(zip(ranges, spans, strict=True)):
        read = [(lower, upper) for lower, upper in wanted if lower < upper]
        references = tuple(dict.fromkeys(one.references))
        if read and references:
            pieces.append((place, scope.tenant, scope.environment, one.meter_id, one.generation, references, read))
    return pieces


def _table(pieces: Sequence[Piece], parameters: dict[str, Any], name: str) -> str:
    """The pieces as a table `p`, passed as one text: arrays cost ClickHouse and its driver time an element."""
    parameters |= {
        f"{name}_pieces": msgspec.json.encode(pieces).decode(),
        f"{name}_references": msgspec.json.encode(sorted({one for piece in pieces for one in piece[5]})).decode(),
        f"{name}_tenants": sorted({piece[1] for piece in pieces}),
        f"{name}_environments": sorted({piece[2] for piece in pieces}),
        f"{name}_meters": sorted({piece[3] for piece in pieces}),
        f"{name}_generations": sorted({piece[4] for piece in pieces}),
    }
    return (
        "(SELECT r.1 AS place, r.2 AS of_tenant, r.3 AS of_environment, r.4 AS meter_id, r.5 AS meter_generation, "
        "arrayJoin(r.6) AS reference, arrayJoin(r.7) AS span, span.1 AS lower, span.2 AS upper FROM "
        f"(SELECT arrayJoin(JSONExtract({{{name}_pieces:String}}, '{_PIECES}')) AS r))"
    )


def _named(name: str) -> str:
    """What a column is IN to belong to one of the pieces' customers."""
    return f"JSONExtract({{{name}_references:String}}, 'Array(String)')"


def _spans(pieces: Sequence[Piece], near: int) -> list[tuple[int, int]]:
    """What the pieces cover, with gaps shorter than `near` filled: a few spans that a primary key or a filter on time can
    use. One over everything where they would be many.
    """
    spans: list[tuple[int, int]] = []
    for lower, upper in sorted({span for piece in pieces for span in piece[6]}):
        if spans and lower - spans[-1][1] < near:
            spans[-1] = (spans[-1][0], max(spans[-1][1], upper))
        else:
            spans.append((lower, upper))
    if len(spans) <= MAX_SPANS:
        return spans
    return [(spans[0][0], max(upper for _, upper in spans))]


def _in_spans(
    pieces: Sequence[Piece], parameters: dict[str, Any], name: str, column: str, instant: str, near: int
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
    client: ClickhouseClient, pieces: Sequence[Piece], parameters: dict[str, Any], columns: Sequence[str]
) -> str:
    return f"SELECT p.place AS place, {window_columns(columns)} {of_windows(client, pieces, parameters)}"


def of_windows(client: ClickhouseClient, pieces: Sequence[Piece], parameters: dict[str, Any]) -> str:
    """The clauses FROM and WHERE of rows `w` of `usage_windows`, each beside its piece `p`, below the cut."""
    table = _table(pieces, parameters, "whole")
    within = _in_spans(pieces, parameters, "whole", "w.minute", "toDateTime({}, 'UTC')", NEAR_S)
    return (
        f"FROM {client.reads('usage_windows')} AS w "
        f"INNER JOIN {table} AS p ON w.customer = p.reference AND w.meter = p.meter_id "
        "AND w.generation = p.meter_generation AND w.tenant = p.of_tenant AND w.environment = p.of_environment "
        "WHERE w.tenant IN {whole_tenants:Array(String)} AND w.environment IN {whole_environments:Array(String)} "
        "AND w.cut < {cut:UInt64} "
        "AND w.meter IN {whole_meters:Array(String)} AND w.generation IN {whole_generations:Array(UInt32)} "
        f"AND w.customer IN {_named('whole')} AND {within} "
        "AND toUnixTimestamp(w.minute) >= p.lower AND toUnixTimestamp(w.minute) < p.upper"
    )


def _from_events(
    client: ClickhouseClient,
    pieces: Sequence[Piece],
    parameters: dict[str, Any],
    name: str,
    condition: str,
    columns: Sequence[str],
) -> str:
    found = of_events(client, pieces, parameters, name, condition)
    return f"SELECT p.place AS place, {event_columns(columns)} {found} GROUP BY place"


def of_events(
    client: ClickhouseClient,
    pieces: Sequence[Piece],
    parameters: dict[str, Any],
    name: str,
    condition: str,
    columns: str = "m.unique_key AS unique_key",
) -> str:
    """The clauses FROM and WHERE of matches `m` of events, each beside its piece `p`. `columns` are read of each match
    besides its value; `name` tells these parameters from others of the statement.
    """
    table = _table(pieces, parameters, name)
    within = _in_spans(pieces, parameters, name, "time", "fromUnixTimestamp64Milli({}, 'UTC')", NEAR_S * 1000)
    matched = (
        "SELECT tenant, environment, customer, time, logged_at, partition, `offset`, `index`, m.meter AS meter_id, "
        f"m.generation AS meter_generation, m.value AS value, {columns} "
        f"FROM {client.reads('events')} AS e ARRAY JOIN e.matches AS m "
        f"WHERE tenant IN {{{name}_tenants:Array(String)}} AND environment IN {{{name}_environments:Array(String)}} "
        f"AND customer IN {_named(name)} AND m.meter IN {{{name}_meters:Array(String)}} "
        f"AND {within} AND {condition}"
    )
    return (
        f"FROM ({matched}) AS m "
        f"INNER JOIN {table} AS p ON m.customer = p.reference AND m.meter_id = p.meter_id "
        "AND m.meter_generation = p.meter_generation AND m.tenant = p.of_tenant AND m.environment = p.of_environment "
        "WHERE toUnixTimestamp64Milli(m.time) >= p.lower AND toUnixTimestamp64Milli(m.time) < p.upper"
    )
