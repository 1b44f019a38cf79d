"""Events as one meter sees them. What matches is decided by `domain.meters` and nowhere else."""

from collections.abc import Iterable
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
    matches.sort(key=in_time)
    return Matched(matches, issues)


def in_time(placed: Placed) -> tuple[int, LogPosition]:
    """The order of matches in time."""
    return placed.time_ms, placed.position
