"""How many of the published cases pass, differ on purpose, or need what is not built yet."""

from typing import NamedTuple

from tests.vectors import later_areas, metering_areas, pricing_areas, time_areas
from tests.vectors.cases import FILES, Area, cases_of

BUILT: dict[str, dict[str, Area]] = {
    "pricing": pricing_areas.AREAS,
    "time": time_areas.AREAS,
    "metering": metering_areas.AREAS,
    "credits": {},
    "invoices": {},
}
LATER: dict[str, dict[str, str]] = {
    "pricing": pricing_areas.LATER,
    "time": time_areas.LATER,
    "metering": metering_areas.LATER,
    "credits": later_areas.CREDITS,
    "invoices": later_areas.INVOICES,
}


class Census(NamedTuple):
    passed: int
    differences: int
    not_applicable: int

    def __str__(self) -> str:
        return (
            f"vectors: {self.passed} passed, {self.differences} deliberate differences, "
            f"{self.not_applicable} not applicable"
        )


def census() -> Census:
    """What the adapters say; that those that are counted as passed do pass is what their tests say."""
    passed = differences = later = 0
    for name in FILES:
        for case in cases_of(name):
            area = BUILT[name].get(case["area"])
            if area is None or area.later(case):
                later += 1
            elif area.differs(case):
                differences += 1
            else:
                passed += 1
    return Census(passed, differences, later)
