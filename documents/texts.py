"""Numbers, dates and foreign text as people read them. English, and the same on every machine: no locale is asked."""

import unicodedata
from datetime import date, datetime, timedelta
from decimal import Decimal

from domain.money import minor_units
from domain.periods import zone_of
from domain.quantities import format_quantity
from schemas.documents import Shown
from schemas.periods import FOREVER

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
NOTHING = Shown(plain="", text="")

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# They turn the text around them, amounts too: a name must not be able to.
_TURNING = frozenset(map(chr, (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))))
_MOMENT = timedelta(microseconds=1)


def clean(text: str) -> str:
    """Foreign text as one line without control characters, and without marks that reverse what stands beside it."""
    return " ".join("".join(_kept(character) for character in text).split())


def _kept(character: str) -> str:
    if character in _TURNING:
        return ""
    category = unicodedata.category(character)
    if category == "Cs":  # half of a surrogate pair has no encoding
        return "\N{REPLACEMENT CHARACTER}"
    return " " if category in {"Cc", "Zl", "Zp"} else character


def quantity(value: Decimal) -> Shown:
    """All its digits."""
    plain = format_quantity(value)
    return Shown(plain=plain, text=_grouped(plain))


def money(amount: Decimal, currency: str) -> Shown:
    """All its digits, and at least those of the currency's minor unit. Raises Invalid `unknown_currency`."""
    plain = format_quantity(amount)
    whole, _, fraction = plain.partition(".")
    fraction = fraction.ljust(minor_units(currency), "0")
    plain = f"{whole}.{fraction}" if fraction else whole
    return Shown(plain=plain, text=_grouped(plain))


def with_code(amount: Decimal, currency: str) -> str:
    """`USD 1,234.50`; the sign stands before the code."""
    text = money(amount, currency).text
    code_and_digits = f"{currency}\N{NO-BREAK SPACE}{text.removeprefix(MINUS)}"
    return f"{MINUS}{code_and_digits}" if text.startswith(MINUS) else code_and_digits


def day(instant: datetime, zone: str) -> str:
    """The local date. Raises Invalid `unknown_timezone`."""
    return _day(instant.astimezone(zone_of(zone)).date())


def moment(instant: datetime, zone: str) -> str:
    """Local date and time to the second, with the offset in force then."""
    return _at(instant.astimezone(zone_of(zone)))


def instant_of(instant: datetime, zone: str) -> Shown:
    """RFC 3339 in local time, and in words."""
    return Shown(plain=instant.astimezone(zone_of(zone)).isoformat(), text=moment(instant, zone))


def period(start: datetime, end: datetime, zone: str) -> str:
    """`[start, end)` as a reader counts: whole local days by their first and last one, all else with its times."""
    if end >= FOREVER:
        return f"from {day(start, zone)}"
    tz = zone_of(zone)
    first, after = start.astimezone(tz), end.astimezone(tz)
    if _opens_a_day(start, zone) and _opens_a_day(end, zone) and start < end:
        return _days(first.date(), (end - _MOMENT).astimezone(tz).date())
    if start >= end:
        return _at(first)
    if _offset(first) != _offset(after):
        return f"{_at(first)} {DASH} {_at(after)}"
    closing = _clock(after) if first.date() == after.date() else f"{_day(after.date())} {_clock(after)}"
    return f"{_day(first.date())} {_clock(first)} {DASH} {closing} {_offset(after)}"


def _days(first: date, last: date) -> str:
    if first == last:
        return _day(first)
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day} {DASH} {_day(last)}"
    if first.year == last.year:
        return f"{first.day} {_MONTHS[first.month - 1]} {DASH} {_day(last)}"
    return f"{_day(first)} {DASH} {_day(last)}"


def _opens_a_day(instant: datetime, zone: str) -> bool:
    """The first instant of a local date, which is not midnight where the clock skips midnight."""
    tz = zone_of(zone)
    return (instant - _MOMENT).astimezone(tz).date() < instant.astimezone(tz).date()


def _at(local: datetime) -> str:
    return f"{_day(local.date())} {_clock(local)} {_offset(local)}"


def _day(of: date) -> str:
    return f"{of.day} {_MONTHS[of.month - 1]} {of.year}"


def _clock(local: datetime) -> str:
    return f"{local:%H:%M:%S}" if local.second else f"{local:%H:%M}"


def _offset(local: datetime) -> str:
    """`UTC`, or `UTC+05:30`."""
    ahead = local.utcoffset() or timedelta(0)
    hours, minutes = divmod(abs(ahead) // timedelta(minutes=1), 60)
    sign = MINUS if ahead < timedelta(0) else "+"
    return f"UTC{sign}{hours:02}:{minutes:02}" if ahead else "UTC"


def _grouped(plain: str) -> str:
    """Thousands apart, and a real minus sign. What keeps an exponent stays as it is."""
    if "e" in plain:
        return plain
    digits = plain.removeprefix("-")
    whole, point, fraction = digits.partition(".")
    grouped = f"{int(whole):,}{point}{fraction}"
    return f"{MINUS}{grouped}" if digits != plain else grouped
