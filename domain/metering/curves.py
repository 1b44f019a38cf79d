"""A level over time from sums of its changes: exact, however many changes there were and whichever level they belong to.

A change by d at time t adds d x (T - t) to the area up to any later T. So the area up to T is T x (the sum of d) less (the
sum of d x t) over all changes before T: sums that a store adds up in any order.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate
from typing import NamedTuple

from domain.errors import Invalid
from domain.money import EXACT, ZERO, round_half_away, total
from domain.quantities import FRACTION_DIGITS


class LevelSums(NamedTuple):
    """Changes of levels: how many, what they add to the level, and each of that x its time in ms, added up."""

    changes: int
    added: Decimal
    moment: Decimal

    def plus(self, other: "LevelSums") -> "LevelSums":
        return LevelSums(
            self.changes + other.changes, EXACT.add(self.added, other.added), EXACT.add(self.moment, other.moment)
        )


NO_CHANGES = LevelSums(0, ZERO, ZERO)


class LevelCurve:
    """Levels from `start_ms` on. `before` is what was set before it and still holds there; its moment is not looked at.

    `stretches` are the changes from then on, under the ms at which each stretch of time begins.
    """

    def __init__(self, before: LevelSums, start_ms: int, stretches: Mapping[int, LevelSums]) -> None:
        begun = LevelSums(before.changes, before.added, EXACT.multiply(before.added, Decimal(start_ms)))
        self._starts = sorted(stretches)
        self._sums = list(accumulate((stretches[start] for start in self._starts), LevelSums.plus, initial=begun))

    def average(self, start_ms: int, end_ms: int) -> Decimal | None:
        """The time-weighted level over `[start_ms, end_ms)`, both the edge of a stretch, or beyond all that is known.

        Rounded half away from zero to 12 digits after the point; None where nothing was set before the end.
        Raises Invalid `range_empty`.
        """
        return weighed([self.area(start_ms, end_ms)], start_ms, end_ms)

    def area(self, start_ms: int, end_ms: int) -> Decimal | None:
        """The sum of level x ms over `[start_ms, end_ms)`, exactly; else as `average`."""
        known = self._before(end_ms)
        if not known.changes:
            return None
        return EXACT.subtract(_area(known, end_ms), _area(self._before(start_ms), start_ms))

    def _before(self, at_ms: int) -> LevelSums:
        return self._sums[bisect_left(self._starts, at_ms)]


def weighed(areas: Iterable[Decimal | None], start_ms: int, end_ms: int) -> Decimal | None:
    """The level over `[start_ms, end_ms)` whose `areas` are those of parts of it; in the rest it counts as 0.

    Rounded half away from zero to 12 digits after the point; None where no part has one. Raises Invalid `range_empty`.
    """
    if end_ms <= start_ms:
        raise Invalid("range_empty", "a range ends after it starts")
    told = [area for area in areas if area is not None]
    return round_half_away(Fraction(total(told)) / (end_ms - start_ms), FRACTION_DIGITS) if told else None


def _area(sums: LevelSums, at_ms: int) -> Decimal:
    return EXACT.subtract(EXACT.multiply(sums.added, Decimal(at_ms)), sums.moment)
