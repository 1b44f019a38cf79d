"""Hours of the day, on a local clock: from a start up to an end, past midnight where the end is earlier."""

import re
from collections.abc import Sequence
from datetime import datetime, time
from zoneinfo import ZoneInfo

from domain.errors import Invalid
from schemas.price_terms import TimeBand

_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")


def parse_clock(text: str) -> time:
    """HH:MM. Raises Invalid `band_malformed`."""
    found = _CLOCK.fullmatch(text)
    if found is None:
        raise Invalid("band_malformed", "a time of day is HH:MM, from 00:00 to 23:59")
    return time(int(found[1]), int(found[2]))


def contains(start: time, end: time, clock: time) -> bool:
    """`clock` in `[start, end)`; from and up to the same time is no time at all."""
    if start <= end:
        return start <= clock < end
    return clock >= start or clock < end


def band_at(bands: Sequence[TimeBand], at: datetime, zone: ZoneInfo) -> TimeBand | None:
    """The band that holds the local time of `at`. The bands are valid and do not overlap."""
    clock = at.astimezone(zone).time()
    return next((band for band in bands if contains(parse_clock(band.start), parse_clock(band.end), clock)), None)


def hours_of(band: TimeBand) -> frozenset[int]:
    """The hours of a day that begin in the band."""
    start, end = parse_clock(band.start), parse_clock(band.end)
    return frozenset(hour for hour in range(24) if contains(start, end, time(hour)))
