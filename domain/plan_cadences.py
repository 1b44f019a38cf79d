"""Which cadences fit into one plan: the periods of one must lie whole within those of the other."""

from schemas.periods import Cadence, CadenceUnit

_FAMILIES: tuple[dict[CadenceUnit, int], ...] = (
    {"month": 1, "quarter": 3, "half_year": 6, "year": 12},
    {"day": 1, "week": 7},
    {"minute": 1, "hour": 60},
)


def cadences_fit(one: Cadence, other: Cadence) -> bool:
    """Whether every boundary of the slower one is a boundary of the faster one, counted from the same anchor.

    Months, quarters and years fit each other where one is a whole multiple of the other; so do days and weeks; a day
    fits months of any number. Weeks do not fit months, and elapsed time fits only itself: a day may have 23 hours.
    """
    for family in _FAMILIES:
        if one.unit in family and other.unit in family:
            lengths = sorted((family[one.unit] * one.count, family[other.unit] * other.count))
            return lengths[1] % lengths[0] == 0
    units = {one.unit, other.unit}
    daily = Cadence(unit="day")
    return daily in (one, other) and bool(units & {"month", "quarter", "half_year", "year"})
