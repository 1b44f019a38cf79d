"""No area of the published cases can be left out in silence."""

import pytest

from tests.vectors import later_areas, metering_areas, pricing_areas, time_areas
from tests.vectors.cases import FILES, Area, cases_of

BUILT: dict[str, dict[str, Area]] = {
    "pricing": pricing_areas.AREAS,
    "time": time_areas.AREAS,
    "metering": metering_areas.AREAS,
    "credits": {},
    "invoices": {},
}
LATER = {
    "pricing": pricing_areas.LATER,
    "time": time_areas.LATER,
    "metering": metering_areas.LATER,
    "credits": later_areas.CREDITS,
    "invoices": later_areas.INVOICES,
}


@pytest.mark.parametrize("name", FILES)
def test_every_area_has_an_adapter_or_a_reason(name: str) -> None:
    areas = {case["area"] for case in cases_of(name)}
    assert areas == BUILT[name].keys() | LATER[name].keys()
    assert not BUILT[name].keys() & LATER[name].keys()


@pytest.mark.parametrize("name", FILES)
def test_every_area_with_an_adapter_runs_at_least_one_case(name: str) -> None:
    run = {case["area"] for case in cases_of(name) if (area := BUILT[name].get(case["area"])) and not area.later(case)}
    assert run == BUILT[name].keys()


def test_the_counts_change_only_on_purpose() -> None:
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
    assert (passed, differences, later) == (237, 14, 81)
