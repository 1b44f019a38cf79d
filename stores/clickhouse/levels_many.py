"""Levels of many ranges in one statement, weighed by time: beside `usage_many`, whose aggregates add up and these do not.

Changes within a range come from events on both sides. What was set before it comes from the windows or, where it is
counted again, from events alone.
"""

from collections.abc import Sequence
from typing import Any

from domain.metering import NO_CHANGES, LevelCurve, LevelSums
from schemas.usage import UsageRange, UsageState
from stores.clickhouse.aggregates import epoch_ms, whole_minutes
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


async def _read(client: ClickhouseClient, ranges: Sequence[Scoped], cut: int, source: Source) -> list[UsageState]:
    states: list[UsageState] = []
    for some in parts_of(ranges):
        parameters: dict[str, Any] = {"cut": cut}
        changes = [*_inside(client, some, parameters), *_carried(client, some, parameters, source)]
        found: dict[tuple[int, int], LevelSums] = {}
        if changes:
            sql = summed(" UNION ALL ".join(changes), ["place", "inside"])
            for place, inside, *sums in await client.rows(sql, parameters):
                found[place, inside] = LevelSums(*sums)
        for place, (_, one) in enumerate(some):
            states.append(_weighed(one, found.get((place, 0), NO_CHANGES), found.get((place, 1), NO_CHANGES)))
    return states


def _weighed(one: UsageRange, before: LevelSums, inside: LevelSums) -> UsageState:
    start_ms, end_ms = epoch_ms(one.start), epoch_ms(one.end)
    return UsageState(weighted=LevelCurve(before, start_ms, {start_ms: inside}).average(start_ms, end_ms))


def _inside(client: ClickhouseClient, ranges: Sequence[Scoped], parameters: dict[str, Any]) -> list[str]:
    pieces = pieces_of(ranges, [[(epoch_ms(one.start), epoch_ms(one.end))] for _, one in ranges])
    if not pieces:
        return []
    found = of_events(client, pieces, parameters, "inside", _KNOWN, _DIMENSIONS)
    return [f"SELECT p.place AS place, 1 AS inside, (p.place, m.dimensions) AS series, {RANKED} {found}"]


def _carried(
    client: ClickhouseClient, ranges: Sequence[Scoped], parameters: dict[str, Any], source: Source
) -> list[str]:
    starts = [epoch_ms(one.start) if one.carry else 0 for _, one in ranges]
    minutes = [whole_minutes(0, start)[1] if source == "windows" else 0 for start in starts]
    whole: list[Spans] = [[(0, minute)] for minute in minutes]
    rest: list[Spans] = [[(minute * 1000, start)] for minute, start in zip(minutes, starts, strict=True)]
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
