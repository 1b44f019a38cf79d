"""Recurring half-open periods in an IANA zone (semantics, time).

Every boundary is computed from the original anchor, never from the boundary before it: so a month anchor of the 31st
clamps to 28 February and comes back to 31 March. Days and longer units step in local time, hours and minutes in elapsed time.
"""

from calendar import monthrange
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from domain.errors import Invalid
from schemas.periods import FOREVER, BillingAnchor, Cadence, CadenceUnit, Period

MAX_CADENCE_COUNT = 1000

# Units that are steps of one kind, by the shortest of each kind, from the longest kind to the shortest: months and days
# are steps in local time, minutes elapsed time.
UNITS: Mapping[CadenceUnit, Mapping[CadenceUnit, int]] = {
    "month": {"month": 1, "quarter": 3, "half_year": 6, "year": 12},
    "day": {"day": 1, "week": 7},
    "minute": {"minute": 1, "hour": 60},
}
_MONTHS, _DAYS = UNITS["month"], UNITS["day"]
_ELAPSED = {unit: timedelta(minutes=minutes) for unit, minutes in UNITS["minute"].items()}
_SECONDS_PER_DAY = 86_400
# An average Gregorian month, only to guess an index that is then corrected step by step.
_SECONDS_PER_MONTH = 2_629_746


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """Raises Invalid `unknown_timezone` for what is no IANA zone name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Invalid("unknown_timezone", f"{name!r} is not the name of an IANA time zone") from None


def validate_cadence(cadence: Cadence) -> None:
    """Raises Invalid `cadence_out_of_range`."""
    if not 1 <= cadence.count <= MAX_CADENCE_COUNT:
        raise Invalid("cadence_out_of_range", f"a cadence counts 1 to {MAX_CADENCE_COUNT} units")


def boundary(anchor: datetime, cadence: Cadence, zone: str, n: int) -> datetime:
    """The start of period `n`, counted from the anchor (n = 0, the anchor itself; may be negative). UTC.

    A local time that DST skips is taken an hour later, one that DST repeats at its first occurrence.
    Raises Invalid `unknown_timezone`, `anchor_not_whole_seconds`, `period_out_of_range` (outside the years 1 to 9999).
    """
    if anchor.microsecond:
        # protocol 23: usage is counted per second of event time, so every boundary lies on a whole second
        raise Invalid("anchor_not_whole_seconds", "an anchor lies on a whole second")
    try:
        return _boundary(anchor, cadence, zone, n)
    except (OverflowError, ValueError):
        raise Invalid("period_out_of_range", "the period lies outside the years 1 to 9999") from None


def _boundary(anchor: datetime, cadence: Cadence, zone: str, n: int) -> datetime:
    steps = n * cadence.count
    if not n:
        return anchor.astimezone(UTC)
    if cadence.unit == "never":
        return FOREVER
    if cadence.unit in _ELAPSED:
        return anchor.astimezone(UTC) + steps * _ELAPSED[cadence.unit]
    tz = zone_of(zone)
    local = anchor.astimezone(tz)
    wall = local.replace(tzinfo=None, fold=0)
    if cadence.unit in _DAYS:
        wall += timedelta(days=steps * _DAYS[cadence.unit])
    else:
        wall = add_months(wall, steps * _MONTHS[cadence.unit])
    # For a skipped local time, fold=0 uses the offset from before the gap: the instant lands after it.
    return wall.replace(tzinfo=tz).astimezone(UTC)


def add_months(wall: datetime, months: int) -> datetime:
    """`months` later, on the same day of the month or the month's last one if it is shorter."""
    year, month0 = divmod(wall.year * 12 + wall.month - 1 + months, 12)
    return wall.replace(year=year, month=month0 + 1, day=min(wall.day, monthrange(year, month0 + 1)[1]))


def period_at(anchor: datetime, cadence: Cadence, zone: str, instant: datetime) -> Period:
    """The period that holds `instant` (half-open: an instant on a boundary belongs to the period it opens).

    Cadence `never` has one period, `[anchor, FOREVER)`; an instant outside it raises Invalid `period_out_of_range`.
    """
    validate_cadence(cadence)
    if cadence.unit == "never":
        if not anchor <= instant < FOREVER:
            raise Invalid("period_out_of_range", "the instant lies outside the only period")
        return Period(start=boundary(anchor, cadence, zone, 0), end=FOREVER, index=0)
    n = _guess(anchor, cadence, instant)
    start = boundary(anchor, cadence, zone, n)
    while instant < start:
        n -= 1
        start = boundary(anchor, cadence, zone, n)
    end = boundary(anchor, cadence, zone, n + 1)
    while instant >= end:
        n += 1
        start, end = end, boundary(anchor, cadence, zone, n + 1)
    return Period(start=start, end=end, index=n)


def _guess(anchor: datetime, cadence: Cadence, instant: datetime) -> int:
    """An index at most a few periods off."""
    if cadence.unit in _ELAPSED:
        length = _ELAPSED[cadence.unit] // timedelta(seconds=1)
    elif cadence.unit in _DAYS:
        length = _SECONDS_PER_DAY * _DAYS[cadence.unit]
    else:
        length = _SECONDS_PER_MONTH * _MONTHS[cadence.unit]
    return ((instant - anchor) // timedelta(seconds=1)) // (length * cadence.count)


def periods_between(anchor: datetime, cadence: Cadence, zone: str, start: datetime, end: datetime) -> list[Period]:
    """The whole periods that overlap `[start, end)`, in order; none if it is empty."""
    periods: list[Period] = []
    at = start
    while at < end:
        period = period_at(anchor, cadence, zone, at)
        periods.append(period)
        at = period.end
    return periods


def next_period(anchor: datetime, cadence: Cadence, zone: str, period: Period) -> Period:
    """The period after `period`, whose index counts from the same anchor."""
    following = period.index + 1
    end = boundary(anchor, cadence, zone, following + 1)
    while end <= period.end:  # a local day that the zone skipped whole is no period
        following += 1
        end = boundary(anchor, cadence, zone, following + 1)
    return Period(start=period.end, end=end, index=following)


def calendar_anchor(start: datetime, cadence: Cadence, zone: str) -> datetime:
    """The first start of the calendar unit at or after `start`: a start exactly on it is the anchor itself.

    Weeks start on Monday, quarters in January, April, July and October; cadence `never` anchors at the start.
    """
    if cadence.unit == "never":
        return start.astimezone(UTC)
    tz = zone_of(zone)
    local = start.astimezone(tz)
    floor = _unit_start(local.replace(tzinfo=None, fold=0), cadence)
    # An hour that DST repeats starts twice; a day, at the first of its two midnights.
    opened = floor.replace(tzinfo=tz, fold=local.fold if cadence.unit in _ELAPSED else 0).astimezone(UTC)
    if opened >= start:
        return opened
    return boundary(opened, Cadence(unit=cadence.unit), zone, 1)


def _unit_start(wall: datetime, cadence: Cadence) -> datetime:
    minute = wall.replace(second=0, microsecond=0)
    if cadence.unit == "minute":
        return minute
    hour = minute.replace(minute=0)
    if cadence.unit == "hour":
        return hour
    day = hour.replace(hour=0)
    if cadence.unit == "day":
        return day
    if cadence.unit == "week":
        return day - timedelta(days=day.weekday())
    months = _MONTHS[cadence.unit]
    return day.replace(month=(day.month - 1) // months * months + 1, day=1)


def billing_period_at(start: datetime, anchor: BillingAnchor, cadence: Cadence, zone: str, instant: datetime) -> Period:
    """The billing period of a subscription begun at `start` that holds `instant`.

    `anniversary` counts from the start. `calendar` counts from the first calendar boundary at or after the start;
    what lies before that boundary is a stub, index -1, that begins at the start.
    Raises Invalid `before_start` for an instant before the subscription.
    """
    if instant < start:
        raise Invalid("before_start", "the instant lies before the start of the subscription")
    origin = start if anchor == "anniversary" else calendar_anchor(start, cadence, zone)
    if instant < origin:
        return Period(start=start.astimezone(UTC), end=origin, index=-1)
    return period_at(origin, cadence, zone, instant)
