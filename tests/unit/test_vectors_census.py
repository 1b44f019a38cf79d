"""No area of the published cases can be left out in silence."""

import pytest

from tests.vectors.cases import FILES, cases_of
from tests.vectors.census import BUILT, LATER, census


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
    assert census() == (237, 14, 81)
