"""Deadlines and clocks that do not fit together are found before the first block (protocol 1)."""

from datetime import UTC, datetime, timedelta

import pytest

from runtime.settings import IngestSettings
from streams.clocks import DeadlineError, Reading, check_deadlines, surely_apart_s

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def reading(ahead_s: float, took_s: float = 0.0) -> Reading:
    """A clock `ahead_s` ahead of ours at the middle of the question."""
    middle = NOON + timedelta(seconds=took_s / 2)
    return Reading(before=NOON, read=middle + timedelta(seconds=ahead_s), after=NOON + timedelta(seconds=took_s))


def test_the_defaults_fit_together() -> None:
    check_deadlines(IngestSettings())


@pytest.mark.parametrize(
    ("deadline_s", "horizon_s", "skew_s"), [(30, 30, 1), (300, 30, 1), (4, 300, 1), (0, 300, 0), (30, 300, -1)]
)
def test_a_deadline_lies_below_the_horizon_and_far_above_the_skew(
    deadline_s: float, horizon_s: float, skew_s: float
) -> None:
    settings = IngestSettings(insert_deadline_s=deadline_s, token_horizon_s=horizon_s, clock_skew_s=skew_s)
    with pytest.raises(DeadlineError, match="METERSTREAM_INGEST"):
        check_deadlines(settings)


def test_two_clocks_are_apart_by_what_slow_answers_cannot_explain() -> None:
    assert surely_apart_s(reading(0), reading(0)) == 0
    assert surely_apart_s(reading(3), reading(-4)) == 7
    assert surely_apart_s(reading(-4), reading(3)) == 7
    assert surely_apart_s(reading(1, took_s=2), reading(0, took_s=1)) == 0
    assert surely_apart_s(reading(10, took_s=2), reading(0, took_s=1)) == pytest.approx(8.5)
