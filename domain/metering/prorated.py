"""Units weighed by the time they are there: a seat from the 19th on counts for the rest of the period.

What came before the period counts whole in it, what comes after it not at all. Exact up to one rounding, half away from
zero, to 12 digits after the point.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from domain.instants import instant
from domain.metering.matches import Placed
from domain.money import round_half_away
from domain.proration import share
from domain.quantities import FRACTION_DIGITS
from schemas.periods import ProrationBasis


def prorated_sum(
    matches: Sequence[Placed],
    start: datetime,
    end: datetime,
    *,
    basis: ProrationBasis = "seconds",
    zone: str = "UTC",
) -> Decimal:
    """The sum of value x share of `[start, end)` that is left at its time; a negative value takes units away again.

    Raises Invalid `empty_period`, `unknown_timezone`.
    """
    weighed = Fraction(0)
    for (_, units, _, _), time_ms, _ in matches:
        if units is not None:
            weighed += Fraction(units) * _left(time_ms, start, end, basis, zone)
    return round_half_away(weighed, FRACTION_DIGITS)


def prorated_unique_count(
    matches: Sequence[Placed],
    start: datetime,
    end: datetime,
    *,
    basis: ProrationBasis = "seconds",
    zone: str = "UTC",
) -> Decimal:
    """How many different keys, each weighed by the share of `[start, end)` that is left when it is seen first.

    Raises Invalid `empty_period`, `unknown_timezone`.
    """
    first: dict[str, int] = {}
    for (_, _, key, _), time_ms, _ in matches:
        if key:
            first[key] = min(time_ms, first.get(key, time_ms))
    weighed = sum((_left(time_ms, start, end, basis, zone) for time_ms in first.values()), Fraction(0))
    return round_half_away(weighed, FRACTION_DIGITS)


def _left(time_ms: int, start: datetime, end: datetime, basis: ProrationBasis, zone: str) -> Fraction:
    return share(start, end, instant(time_ms), end, basis=basis, zone=zone)
