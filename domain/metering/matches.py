"""Events as one meter sees them. What matches is decided by `domain.meters` and nowhere else."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

from domain.aggregates import LogPosition
from domain.meters import Match, compile_meters
from domain.properties import Properties
from schemas.meters import Meter


class MeterEvent(NamedTuple):
    """An accepted event, once each: `properties` as `domain.events.decode_properties` gives them."""

    type: str
    time_ms: int
    position: LogPosition
    properties: Properties


class Placed(NamedTuple):
    """A match with its event time and its position, which breaks ties of time: what `domain.aggregates.fold` takes."""

    match: Match
    time_ms: int
    position: LogPosition


class Matched(NamedTuple):
    """`matches` by event time, then position; `issues` as (position, code), in the order of the events given."""

    matches: list[Placed]
    issues: list[tuple[LogPosition, str]]


def matches_of(meter: Meter, events: Iterable[MeterEvent]) -> Matched:
    """What `meter` (valid: `validate_meter`) counts of `events`, and what it cannot use of them."""
    compiled = compile_meters([meter])
    matches: list[Placed] = []
    issues: list[tuple[LogPosition, str]] = []
    for event in events:
        found, wrong = compiled.evaluate(event.type, event.properties)
        matches += [Placed(match, event.time_ms, event.position) for match in found]
        issues += [(event.position, code) for _, code in wrong]
    matches.sort(key=attrgetter("time_ms", "position"))
    return Matched(matches, issues)


def within(matches: Sequence[Placed], start_ms: int, end_ms: int) -> Sequence[Placed]:
    """Those of `[start_ms, end_ms)`, of matches that are by time."""
    time_ms = attrgetter("time_ms")
    return matches[bisect_left(matches, start_ms, key=time_ms) : bisect_left(matches, end_ms, key=time_ms)]
