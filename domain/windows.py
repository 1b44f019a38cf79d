"""Windows of time, cut in an IANA zone (semantics, quantities and usage): half-open, never across a local midnight
unless they are days or longer.
"""

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from domain.errors import Invalid
from domain.periods import add_months, zone_of
from schemas.usage import TimeWindow

MAX_WINDOWS = 10_000

_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)
_MINUTES_PER_DAY = 1440
_NAMED_MINUTES = {"minute": 1, "hour": 60}
_ISO = re.compile(r"PT(?P<count>[1-9][0-9]{0,4})(?P<unit>[MH])")


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
        raise _too_many()
    try:
        edges = _edges(start, end, minutes, window, tz)
    except OverflowError:
        raise Invalid("range_too_long", "the range reaches beyond the calendar") from None
    inner = sorted(edge for edge in edges if start < edge < end)
    if len(inner) >= MAX_WINDOWS:
        raise _too_many()
    return [TimeWindow(start=left, end=right) for left, right in pairwise([start, *inner, end])]


def _too_many() -> Invalid:
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
            "window_unknown", f"{window!r} is none of minute, hour, day, week, month, PT<n>M or PT<n>H up to a day"
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
            raise _too_many()
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
