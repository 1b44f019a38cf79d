"""Parts of an amount for parts of a period. The parts always sum to the whole (semantics, time).

Two measures of a part, both half-open. `seconds`: elapsed time. `days`: local days, where the day of a cut belongs whole
to the part that begins on it: from any time of 15 March on, a March has 17 of its 31 days left.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from domain.errors import Invalid
from domain.money import EXACT, ZERO, round_half_away, round_money
from domain.periods import zone_of
from domain.quantities import FRACTION_DIGITS
from schemas.periods import ProrationBasis

_MICROSECOND = timedelta(microseconds=1)


def day_count(start: datetime, end: datetime, zone: str) -> int:
    """Local days from `start` to `end`: how many dates later `end` is in the zone, whatever the clocks did between.

    Below 0 where `end` lies on an earlier date. Raises Invalid `unknown_timezone`.
    """
    tz = zone_of(zone)
    return (end.astimezone(tz).date() - start.astimezone(tz).date()).days


def share(
    start: datetime,
    end: datetime,
    part_start: datetime,
    part_end: datetime,
    *,
    basis: ProrationBasis = "seconds",
    zone: str = "UTC",
) -> Fraction:
    """The exact share of `[start, end)` that lies in `[part_start, part_end)`, from 0 to 1.

    By `days` of `zone`; a period that lies within one local day has no day to count and is shared by seconds.
    Raises Invalid `empty_period`, `unknown_timezone`.
    """
    if end <= start:
        raise Invalid("empty_period", "a period ends after it starts")
    first, last = max(start, part_start), min(end, part_end)
    if last <= first:
        return Fraction(0)
    days = day_count(start, end, zone) if basis == "days" else 0
    if days:
        return Fraction(day_count(first, last, zone), days)
    return Fraction((last - first) // _MICROSECOND, (end - start) // _MICROSECOND)


def prorate(
    amount: Decimal,
    cuts: Sequence[datetime],
    currency: str,
    *,
    basis: ProrationBasis = "seconds",
    zone: str = "UTC",
) -> list[Decimal]:
    """`amount` (already in minor units) split at the cuts: one part per `[cuts[i], cuts[i + 1])`.

    Each part is the rounded running total minus what earlier parts took, so no part is off by more than one minor
    unit and the last takes the remainder. Raises Invalid `cuts_not_ascending`, `unknown_currency`, `unknown_timezone`.
    """
    if len(cuts) <= 1 or any(later <= earlier for earlier, later in pairwise(cuts)):
        raise Invalid("cuts_not_ascending", "a period is cut at ascending instants, two at least")
    parts: list[Decimal] = []
    taken = ZERO
    for cut in cuts[1:]:
        exact = Fraction(amount) * share(cuts[0], cuts[-1], cuts[0], cut, basis=basis, zone=zone)
        running = amount if cut == cuts[-1] else round_money(exact, currency)
        parts.append(EXACT.subtract(running, taken))
        taken = running
    return parts


def part_of(
    amount: Decimal, whole: tuple[datetime, datetime], start: datetime, end: datetime, currency: str
) -> Decimal:
    """The part of `amount`, which is for the period `whole`, that falls on `[start, end)` within it.

    It is the rounded running amount at `end` less that at `start`: however a period is cut, its parts sum to the whole.
    Raises as `prorate`.
    """
    cuts = sorted({*whole, start, end})
    return prorate(amount, cuts, currency)[cuts.index(start)]


def rest_of(
    amount: Decimal,
    start: datetime,
    end: datetime,
    at: datetime,
    currency: str,
    *,
    basis: ProrationBasis = "seconds",
    zone: str = "UTC",
) -> Decimal:
    """What of `amount` for `[start, end)` falls on the time from `at` on: all of it before the period, 0 after it.

    The remainder of what the time before `at` takes, as `prorate` gives it. Raises as `prorate` and `share`.
    """
    if end <= start:
        raise Invalid("empty_period", "a period ends after it starts")
    if at <= start:
        return amount
    if at >= end:
        return ZERO
    return prorate(amount, (start, at, end), currency, basis=basis, zone=zone)[-1]


def capped_credit(credit: Decimal, paid: Decimal, credited: Decimal = ZERO) -> Decimal:
    """`credit`, at most what was paid and not credited before, and never below 0: a credit takes nothing back."""
    return max(ZERO, min(credit, EXACT.subtract(paid, credited)))


def unused_credit(
    amount: Decimal,
    start: datetime,
    end: datetime,
    at: datetime,
    currency: str,
    *,
    paid: Decimal | None = None,
    credited: Decimal = ZERO,
    basis: ProrationBasis = "seconds",
    zone: str = "UTC",
) -> Decimal:
    """The credit (0 or more) for what is not used of `[start, end)` from `at` on, where `amount` is its price.

    It never exceeds `paid`, less what was `credited` for it before. `paid` is None only where nobody knows what was
    paid: then the price is what bounds it. Raises as `prorate` and `share`.
    """
    rest = rest_of(amount, start, end, at, currency, basis=basis, zone=zone)
    return capped_credit(rest, amount if paid is None else paid, credited)


def prorated_quantity(quantity: Decimal, part: Fraction) -> Decimal:
    """A share of a quantity that is no money (units, granted credits), rounded half away from zero to 12 digits."""
    return round_half_away(Fraction(quantity) * part, FRACTION_DIGITS)
