"""Levels of one customer, weighed by time (`weighted_sum`): every change from `events`, whose order and times matter.

The level that holds at the start comes from the newest value before it: of whole minutes that is in `usage_windows`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from domain.metering import NO_CHANGES, LevelCurve, LevelSums
from schemas.usage import TimeWindow, Usage, UsageQuery, UsageRow
from stores.clickhouse.aggregates import epoch_ms, whole_minutes
from stores.clickhouse.client import ClickhouseClient, Row
from stores.clickhouse.level_sums import CARRIED, RANKED, newest, summed
from stores.clickhouse.usage_conditions import (
    FIRST_MS,
    LAST_MS,
    MAX_ROWS,
    Parameters,
    Span,
    bounds_of,
    clipped,
    group_names,
    grouped,
    of_events,
    of_windows,
    too_many_rows,
)

Group = tuple[str, ...]


async def level_usage(client: ClickhouseClient, query: UsageQuery, windows: Sequence[TimeWindow]) -> Usage:
    """The level over each of `windows`, which follow each other or overlap, at least one, in order of their starts; and
    over all of their time.

    Without `group_by` every window has a row, with it those of groups with a level that reaches into the window.
    Raises Invalid `dimension_unknown`, `too_many_rows`, `range_empty`.
    """
    span = windows[0].start, windows[-1].end
    levels = await _levels(client, query, windows, span)
    if len(windows) * len(levels) > MAX_ROWS:
        raise too_many_rows()
    start_ms = epoch_ms(span[0])
    curves = {group: LevelCurve(found.before, start_ms, found.stretches) for group, found in sorted(levels.items())}
    whole = _together(levels.values())
    return Usage(
        rows=tuple(_rows(query, windows, curves)),
        total=LevelCurve(whole.before, start_ms, whole.stretches).average(start_ms, epoch_ms(span[1])),
    )


class _Levels(NamedTuple):
    """Of one group: what was set before the span, and what changed in it, under the ms at which each stretch begins."""

    before: LevelSums
    stretches: dict[int, LevelSums]


def _rows(query: UsageQuery, windows: Sequence[TimeWindow], curves: Mapping[Group, LevelCurve]) -> Iterator[UsageRow]:
    for window in windows:
        start_ms, end_ms = epoch_ms(window.start), epoch_ms(window.end)
        for group, curve in curves.items():
            value = curve.average(start_ms, end_ms)
            if value is None and query.group_by:
                continue
            dimensions = {name: text or None for name, text in zip(query.group_by, group, strict=True)}
            yield UsageRow(window_start=window.start, window_end=window.end, value=value, dimensions=dimensions)


def _together(levels: Iterable[_Levels]) -> _Levels:
    before, stretches = NO_CHANGES, dict[int, LevelSums]()
    for found in levels:
        before = before.plus(found.before)
        for begin, sums in found.stretches.items():
            stretches[begin] = stretches.get(begin, NO_CHANGES).plus(sums)
    return _Levels(before, stretches)


async def _levels(
    client: ClickhouseClient, query: UsageQuery, windows: Sequence[TimeWindow], span: tuple[datetime, datetime]
) -> dict[Group, _Levels]:
    levels: dict[Group, _Levels] = {} if query.group_by else {(): _Levels(NO_CHANGES, {})}
    start_ms = epoch_ms(span[0])
    for inside, bucket, *rest in await _read(client, query, windows, clipped(*span)):
        held = levels.setdefault(tuple(rest[:-3]), _Levels(NO_CHANGES, {}))
        sums = LevelSums(*rest[-3:])
        if inside:
            held.stretches[max(bucket * 1000, start_ms)] = sums
        else:
            levels[tuple(rest[:-3])] = held._replace(before=sums)
    return levels


async def _read(
    client: ClickhouseClient, query: UsageQuery, windows: Sequence[TimeWindow], span: Span
) -> Sequence[Row]:
    """Rows of (inside the span, bucket, groups, changes, added, moment)."""
    start_ms, end_ms = span
    parameters: Parameters = {"bounds": bounds_of(windows)}
    changes = []
    if start_ms < end_ms:
        changes.append(_inside(client, query, span, parameters))
    if query.meter.carry and start_ms > FIRST_MS:
        changes.append(_carried(client, query, min(start_ms, LAST_MS), parameters))
    if not changes:
        return []
    sql = summed(" UNION ALL ".join(changes), ["inside", "bucket", *group_names(query)])
    found = await client.rows(f"{sql} LIMIT {MAX_ROWS + 1}", parameters)
    if len(found) > MAX_ROWS:
        raise too_many_rows()
    return found


def _inside(client: ClickhouseClient, query: UsageQuery, span: Span, parameters: Parameters) -> str:
    selected = [
        "1 AS inside",
        "roundDown(toUInt32(toUnixTimestamp64Second(time)), {bounds:Array(UInt32)}) AS bucket",
        *grouped(query, "m.dimensions"),
        "m.dimensions AS series",
        RANKED,
    ]
    conditions = [*of_events(query, parameters, [span], "inside"), "isNotNull(m.value)"]
    return _from_events(client, selected, conditions)


def _carried(client: ClickhouseClient, query: UsageQuery, start_ms: int, parameters: Parameters) -> str:
    """The newest value of each level before the start."""
    _, minute = whole_minutes(FIRST_MS, start_ms)
    known = " AND ".join([*of_windows(query, parameters, 0, minute), "w.values > 0"])
    held = "w.dimensions AS series, w.latest AS latest"
    sources = [f"SELECT {held} FROM {client.reads('usage_windows')} AS w WHERE {known}"]
    if minute * 1000 < start_ms:
        edge = [*of_events(query, parameters, [(minute * 1000, start_ms)], "before"), "isNotNull(m.value)"]
        sources.append(_from_events(client, ["m.dimensions AS series", CARRIED], edge))
    groups = grouped(query, "series")
    return newest(" UNION ALL ".join(sources), [], ["0 AS inside", "toUInt32(0) AS bucket", *groups])


def _from_events(client: ClickhouseClient, selected: Sequence[str], conditions: Sequence[str]) -> str:
    return (
        f"SELECT {', '.join(selected)} FROM {client.reads('events')} AS e ARRAY JOIN e.matches AS m "
        f"WHERE {' AND '.join(conditions)}"
    )
