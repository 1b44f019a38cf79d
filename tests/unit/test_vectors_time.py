"""The published cases of time that touch what exists."""

import pytest

from tests.vectors.cases import Case, applicable
from tests.vectors.time_areas import AREAS


@pytest.mark.parametrize("case", applicable("time", AREAS), ids=lambda case: f"{case['id']}-{case['area']}")
def test_the_published_case_comes_out(case: Case) -> None:
    AREAS[case["area"]].check(case)
