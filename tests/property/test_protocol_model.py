"""The model of the counting protocol, in small: `make model` runs all of it."""

import pytest

from docs.protocol import completion, mutants, readers, scenarios
from docs.protocol.explore import run


@pytest.mark.parametrize("name", scenarios.QUICK)
def test_every_interleaving_counts_once(name: str) -> None:
    assert scenarios.holds(name)


@pytest.mark.parametrize("name", mutants.QUICK)
def test_a_rule_that_is_switched_off_is_found(name: str) -> None:
    assert mutants.as_expected(name)


@pytest.mark.parametrize("name", completion.QUICK)
def test_a_part_of_the_completion_that_is_left_out_is_found(name: str) -> None:
    model, must_fail = completion.RUNS[name]
    assert run(name, model, must_fail=must_fail, show=False)


@pytest.mark.parametrize("name", readers.RUNS)
def test_readers_of_changelogs_and_cutoffs_are_right_and_their_mutants_are_not(name: str) -> None:
    model, must_fail = readers.RUNS[name]
    assert run(name, model, must_fail=must_fail, show=False)
