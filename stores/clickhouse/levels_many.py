"""Levels of many ranges in one statement, weighed by time: beside `usage_many`, whose aggregates add up and these do not.

Changes within a range come from events on both sides. What was set before it comes from the windows or, where it is
counted again, from events alone.
"""

from collections.abc import Sequence
from decimal import Decimal
from itertools import islice
from typing import Any, NamedTuple

from msgspec.structs import replace

from domain.metering import NO_CHANGES, LevelCurve, LevelSums, weighed
from schemas.scope import Scope
from schemas.usage import UsageRange, UsageState
from stores.clickhouse.aggregates import epoch_ms, ragged_edges, whole_minutes
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.level_sums import CARRIED, RANKED, newest, summed
from stores.clickhouse.usage_many import Piece, Scoped, Source, Spans, of_events, of_windows, parts_of, pieces_of

_KNOWN = "cut < {cut:UInt64} AND isNotNull(m.value)"
_DIMENSIONS = "m.dimensions AS dimensions"


async def levels_of_many(client: ClickhouseClient, ranges: Sequence[Scoped], cut: int) -> list[UsageState]:
    """The level over each range (`weighted`) at cutoff `cut`, in order; None where nothing was set before its end.

    For a complete cutoff (`Cuts.wait_complete`) the answer is the same for ever.
    """
    return await _read(client, ranges, cut, "windows")


async def recounted_levels_of_many(client: ClickhouseClient, ranges: Sequence[Scoped], cut: int) -> list[UsageState]:
    """The same from raw events alone: what verifies `levels_of_many` before it is billed."""
    return await _read(client, ranges, cut, "events")


class _Span(NamedTuple):
    """One span that is billed, as a range of its own; nothing that was set before `since_ms` counts in it."""

    scope: Scope
    one: UsageRange
    since_ms: int


async def _read(client: ClickhouseClient, ranges: Sequence[Scoped], cut: int, source: Source) -> list[UsageState]:
    spans = [_spans(scope, one) for scope, one in ranges]
    areas = iter(await _areas(client, [span for some in spans for span in some], cut, source))
    states = []
    for (_, one), some in zip(ranges, spans, strict=True):
        start, end = one.period or (one.start, one.end)
        level = weighed(islice(areas, len(some)), epoch_ms(start), epoch_ms(end))
        states.append(UsageState(weighted=level))
    return states


def _spans(scope: Scope, one: UsageRange) -> list[_Span]:
    period_start, _ = one.period or (one.start, one.end)
    since_ms = 0 if one.carry else epoch_ms(period_start)
    parts = one.spans or [(one.start, one.end)]
    return [_Span(scope, replace(one, start=start, end=end, spans=()), since_ms) for start, end in parts]


async def _areas(client: ClickhouseClient, spans: Sequence[_Span], cut: int, source: Source) -> list[Decimal | None]:
    """Of each span, in order."""
    areas: list[Decimal | None] = []
    for some in parts_of([(span.scope, span.one) for span in spans]):
        parameters: dict[str, Any] = {"cut": cut}
        since = [span.since_ms for span in spans[len(areas) : len(areas) + len(some)]]
        changes = [*_inside(client, some, parameters), *_carried(client, some, since, parameters, source)]
        found: dict[tuple[int, int], LevelSums] = {}
        if changes:
            sql = summed(" UNION ALL ".join(changes), ["place", "inside"])
            for place, inside, *sums in await client.rows(sql, parameters):
                found[place, inside] = LevelSums(*sums)
        for place, (_, one) in enumerate(some):
            start_ms, end_ms = epoch_ms(one.start), epoch_ms(one.end)
            before, inside = (found.get((place, side), NO_CHANGES) for side in (0, 1))
            areas.append(LevelCurve(before, start_ms, {start_ms: inside}).area(start_ms, end_ms))
    return areas


def _inside(client: ClickhouseClient, ranges: Sequence[Scoped], parameters: dict[str, Any]) -> list[str]:
    pieces = pieces_of(ranges, [[(epoch_ms(one.start), epoch_ms(one.end))] for _, one in ranges])
    if not pieces:
        return []
    found = of_events(client, pieces, parameters, "inside", _KNOWN, _DIMENSIONS)
    return [f"SELECT p.place AS place, 1 AS inside, (p.place, m.dimensions) AS series, {RANKED} {found}"]


def _carried(
    client: ClickhouseClient,
    ranges: Sequence[Scoped],
    since: Sequence[int],
    parameters: dict[str, Any],
    source: Source,
) -> list[str]:
    whole: list[Spans] = []
    rest: list[Spans] = []
    for (_, one), since_ms in zip(ranges, since, strict=True):
        start_ms = epoch_ms(one.start)
        first, last = whole_minutes(since_ms, start_ms)
        by_minutes = source == "windows" and first < last
        whole.append([(first, last)] if by_minutes else [])
        rest.append(ragged_edges(since_ms, start_ms) if by_minutes else [(since_ms, start_ms)])
    sources = [
        *_from_windows(client, pieces_of(ranges, whole), parameters),
        *_from_events(client, pieces_of(ranges, rest), parameters),
    ]
    return [newest(" UNION ALL ".join(sources), ["place"], ["place", "0 AS inside"])] if sources else []


def _from_windows(client: ClickhouseClient, pieces: Sequence[Piece], parameters: dict[str, Any]) -> list[str]:
    if not pieces:
        return []
    columns = "p.place AS place, (p.place, w.dimensions) AS series, w.latest AS latest"
    return [f"SELECT {columns} {of_windows(client, pieces, parameters)} AND w.values > 0"]


def _from_events(client: ClickhouseClient, pieces: Sequence[Piece], parameters: dict[str, Any]) -> list[str]:
    if not pieces:
        return []
    found = of_events(client, pieces, parameters, "before", _KNOWN, _DIMENSIONS)
    return [f"SELECT p.place AS place, (p.place, m.dimensions) AS series, {CARRIED} {found}"]
