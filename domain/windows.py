"""Windows of time (semantics, quantities and usage), half-open.

`cut_windows` tiles a range in an IANA zone, never across a local midnight but by days or longer units. `rolling_windows`
overlap: the last N, at each minute. `session_windows` hold events that follow each other within a gap.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from domain.errors import Invalid
from domain.periods import add_months, zone_of
from schemas.usage import TimeWindow

MAX_WINDOWS = 10_000
# A day of minutes: each window may hold all the minutes that the others hold.
MAX_ROLLING_WINDOWS = 1_440

_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)
_MINUTES_PER_DAY = 1440
_NAMED_MINUTES = {"minute": 1, "hour": 60}
_LONGEST = timedelta(days=366)
_ISO = re.compile(r"PT(?P<count>[1-9][0-9]{0,4})(?P<unit>[MH])")
_MOVING = re.compile(r"(?P<kind>rolling|session):P(?P<time>T?)(?P<count>[1-9][0-9]{0,8})(?P<unit>[DHMS])")
_UNITS = {"TS": timedelta(seconds=1), "TM": _MINUTE, "TH": timedelta(hours=1), "D": _DAY}


class MovingWindow(NamedTuple):
    """`rolling`: the last `length`, at each minute. `session`: what comes within `length` of each other."""

    kind: Literal["rolling", "session"]
    length: timedelta


def moving_window(window: str | None) -> MovingWindow | None:
    """`rolling:PT1H` or `session:PT30M` (PT<n>S, PT<n>M, PT<n>H, P<n>D); None where it is a window that tiles a range.

    Raises Invalid `window_unknown`; whether the length suits is decided with the windows.
    """
    if window is None or ":" not in window:
        return None
    found = _MOVING.fullmatch(window)
    unit = _UNITS.get(found["time"] + found["unit"]) if found else None
    if found is None or unit is None:
        raise Invalid(
            "window_unknown", f"{window!r} is neither rolling:PT<n>M nor session:PT<n>M (S, M and H, or P<n>D)"
        )
    return MovingWindow("rolling" if found["kind"] == "rolling" else "session", int(found["count"]) * unit)


def cut_windows(start: datetime, end: datetime, window: str | None, zone: str) -> list[TimeWindow]:
    """The windows of `[start, end)` in order; the first and the last are clipped to the range. None: the range itself.

    minute, hour, PT<n>M and PT<n>H step in elapsed time from local midnight and begin anew at the next one (the day's
    last window is shorter where they do not divide it, and where DST takes from it); day, week (Monday) and month step
    in local time. Raises Invalid `range_empty`, `window_unknown`, `unknown_timezone`, `too_many_windows`.
    """
    if end <= start:
        raise Invalid("range_empty", "a range ends after it starts")
    tz = zone_of(zone)
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    if window is None:
        return [TimeWindow(start=start, end=end)]
    minutes = _minutes(window)
    if minutes is not None and (end - start) // (minutes * _MINUTE) > MAX_WINDOWS:
        raise too_many_windows()
    try:
        edges = _edges(start, end, minutes, window, tz)
    except (OverflowError, ValueError):
        raise Invalid("range_too_long", "the range reaches beyond the calendar") from None
    inner = sorted(edge for edge in edges if start < edge < end)
    if len(inner) >= MAX_WINDOWS:
        raise too_many_windows()
    return [TimeWindow(start=left, end=right) for left, right in pairwise([start, *inner, end])]


def rolling_windows(start: datetime, end: datetime, length: timedelta) -> list[TimeWindow]:
    """The `length` before each whole minute of `[start, end)`, in order: windows of elapsed time, which overlap.

    Raises Invalid `range_empty`, `window_unknown` (`length` is whole minutes, up to 366 days), `too_many_windows`.
    """
    if end <= start:
        raise Invalid("range_empty", "a range ends after it starts")
    if length % _MINUTE or not _MINUTE <= length <= _LONGEST:
        raise Invalid("window_unknown", f"a rolling window is whole minutes long, up to {_LONGEST.days} days")
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    # Minutes from the first whole one on, as many as lie before the end.
    began = start.replace(second=0, microsecond=0)
    first, last = (0 if began == start else 1), -((began - end) // _MINUTE)
    if last - first > MAX_ROLLING_WINDOWS:
        message = (
            f"the range holds more than {MAX_ROLLING_WINDOWS} minutes, each with a window: ask for a shorter range"
        )
        raise Invalid("too_many_windows", message)
    try:
        ends = [began + n * _MINUTE for n in range(first, last)]
        return [TimeWindow(start=at - length, end=at) for at in ends]
    except OverflowError:
        raise Invalid("range_too_long", "the range reaches beyond the calendar") from None


def session_windows(times: Iterable[datetime], start: datetime, end: datetime, gap: timedelta) -> list[TimeWindow]:
    """The sessions that begin in `[start, end)`, in order: from the first event of each to `gap` after its last one.

    A session ends where no event comes for `gap`: one that comes exactly then begins the next. It belongs whole to the
    range that it begins in, so ranges that follow each other count each session once; for that `times`, in any order,
    reach back to `gap` before the range and on until no event comes for `gap` after it.
    Raises Invalid `range_empty`, `window_unknown` (`gap` is more than nothing, up to 366 days), `too_many_windows`.
    """
    if end <= start:
        raise Invalid("range_empty", "a range ends after it starts")
    if not timedelta(0) < gap <= _LONGEST:
        raise Invalid("window_unknown", f"the gap of a session is longer than nothing and up to {_LONGEST.days} days")
    sessions: list[TimeWindow] = []
    opened = closes = None
    for at in [*sorted(at.astimezone(UTC) for at in times), None]:
        if opened is not None and closes is not None and (at is None or at >= closes):
            if start <= opened < end:
                sessions.append(TimeWindow(start=opened, end=closes))
            opened = None
        if at is not None:
            opened, closes = opened or at, at + gap
    if len(sessions) > MAX_WINDOWS:
        raise too_many_windows()
    return sessions


def too_many_windows() -> Invalid:
    return Invalid("too_many_windows", f"the range holds more than {MAX_WINDOWS} windows: ask for longer windows")


def _minutes(window: str) -> int | None:
    """The window's length where it is one of elapsed time."""
    if window in _NAMED_MINUTES:
        return _NAMED_MINUTES[window]
    if window in ("day", "week", "month"):
        return None
    found = _ISO.fullmatch(window)
    minutes = int(found["count"]) * (60 if found["unit"] == "H" else 1) if found else 0
    if not 1 <= minutes <= _MINUTES_PER_DAY:
        raise Invalid(
            "window_unknown",
            f"{window!r} is none of minute, hour, day, week, month, PT<n>M or PT<n>H up to a day, rolling:... or session:...",
        )
    return minutes


def _edges(start: datetime, end: datetime, minutes: int | None, window: str, zone: ZoneInfo) -> set[datetime]:
    wall = start.astimezone(zone).replace(tzinfo=None, fold=0, hour=0, minute=0, second=0, microsecond=0)
    if window == "week":
        wall -= timedelta(days=wall.weekday())
    elif window == "month":
        wall = wall.replace(day=1)
    edges: set[datetime] = set()
    at = wall.replace(tzinfo=zone).astimezone(UTC)
    while at < end:
        if len(edges) > MAX_WINDOWS:
            raise too_many_windows()
        wall = add_months(wall, 1) if window == "month" else wall + _DAY * (7 if window == "week" else 1)
        following = wall.replace(tzinfo=zone).astimezone(UTC)
        edges.add(at)
        if minutes is not None:
            step = minutes * _MINUTE
            inside = at + step
            while inside < following:
                if start < inside < end:
                    edges.add(inside)
                inside += step
        at = following
    return edges
