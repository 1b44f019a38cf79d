"""Which cadences fit into one plan: the periods of one must lie whole within those of the other."""

from domain.periods import UNITS
from schemas.periods import Cadence


def cadences_fit(one: Cadence, other: Cadence) -> bool:
    """Whether every boundary of the slower one is a boundary of the faster one, counted from the same anchor.

    Months, quarters and years fit each other where one is a whole multiple of the other; so do days and weeks; a day
    fits months of any number. Weeks do not fit months, and elapsed time fits only itself: a day may have 23 hours.
    """
    for family in UNITS.values():
        if one.unit in family and other.unit in family:
            lengths = sorted((family[one.unit] * one.count, family[other.unit] * other.count))
            return lengths[1] % lengths[0] == 0
    daily = Cadence(unit="day")
    return daily in (one, other) and not UNITS["month"].keys().isdisjoint((one.unit, other.unit))
