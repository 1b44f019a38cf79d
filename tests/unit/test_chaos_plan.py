"""A run of faults follows from its seed: the same again, every kind among them, nothing after the end."""

import pytest

from tests.chaos.plan import FIRST, FIRST_AT_S, LONGEST_PAUSE_S, QUIET_END_S, Kind, faults_of

SECONDS = 180.0
SEEDS = range(1, 21)


def test_a_seed_makes_the_same_plan_again() -> None:
    assert faults_of(7, SECONDS) == faults_of(7, SECONDS)
    assert faults_of(7, SECONDS) != faults_of(8, SECONDS)


def test_twenty_seeds_make_three_hundred_faults_of_every_kind() -> None:
    plans = [faults_of(seed, SECONDS) for seed in SEEDS]
    assert sum(len(plan) for plan in plans) >= 300
    assert all({fault.kind for fault in plan} == set(Kind) for plan in plans)


@pytest.mark.parametrize("seed", SEEDS)
def test_faults_come_in_order_and_leave_the_end_quiet(seed: int) -> None:
    plan = faults_of(seed, SECONDS)
    begins = [fault.at_s for fault in plan]
    assert begins == sorted(begins)
    assert begins[0] >= FIRST_AT_S
    assert begins[-1] <= SECONDS - QUIET_END_S
    assert max(fault.lasts_s for fault in plan) <= LONGEST_PAUSE_S


def test_a_short_run_begins_with_what_matters_most() -> None:
    plan = faults_of(3, 50.0, short=True)
    assert {fault.kind for fault in plan[: len(FIRST)]} == set(FIRST)
