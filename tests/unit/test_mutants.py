"""The mutants of `make chaos-mutants` still find what they replace: a change of the code must not blunt them in silence."""

import multiprocessing

import pytest

from tests.chaos.mutants.plans import PLANS
from tests.chaos.mutants.switched_off import MUTANTS


def test_each_rule_that_is_switched_off_has_a_plan_aimed_at_it() -> None:
    assert set(MUTANTS) == set(PLANS)


@pytest.mark.parametrize("name", MUTANTS)
def test_what_a_mutant_replaces_is_there(name: str) -> None:
    # In a process of its own: what is replaced stays replaced.
    process = multiprocessing.get_context("fork").Process(target=MUTANTS[name])
    process.start()
    process.join(20)
    assert process.exitcode == 0
