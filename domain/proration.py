"""Parts of an amount for parts of a period. The parts always sum to the whole (semantics, time)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from domain.errors import Invalid
from domain.money import EXACT, ZERO, round_money

_MICROSECOND = timedelta(microseconds=1)


def share(start: datetime, end: datetime, part_start: datetime, part_end: datetime) -> Fraction:
    """The exact share of `[start, end)` that lies in `[part_start, part_end)`, by elapsed time."""
    if end <= start:
        raise Invalid("empty_period", "a period ends after it starts")
    overlap = min(end, part_end) - max(start, part_start)
    return Fraction(max(overlap // _MICROSECOND, 0), (end - start) // _MICROSECOND)


def prorate(amount: Decimal, cuts: Sequence[datetime], currency: str) -> list[Decimal]:
    """`amount` (already in minor units) split at the cuts by elapsed time: one part per `[cuts[i], cuts[i + 1])`.

    Each part is the rounded running total minus what earlier parts took, so no part is off by more than one minor
    unit and the last takes the remainder. Raises Invalid `cuts_not_ascending`, `unknown_currency`.
    """
    if len(cuts) <= 1 or any(later <= earlier for earlier, later in pairwise(cuts)):
        raise Invalid("cuts_not_ascending", "a period is cut at ascending instants, two at least")
    parts: list[Decimal] = []
    taken = ZERO
    for cut in cuts[1:]:
        exact = Fraction(amount) * share(cuts[0], cuts[-1], cuts[0], cut)
        running = amount if cut == cuts[-1] else round_money(exact, currency)
        parts.append(EXACT.subtract(running, taken))
        taken = running
    return parts
