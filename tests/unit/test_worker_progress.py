"""When a worker that still answers is dead."""

from faust.types import TP

from streams.health import Progress

PLACE = TP("usage.raw", 0)


def watch() -> Progress:
    return Progress(stalled_after_s=10, recovery_max_s=20)


def test_a_committed_offset_that_stands_still_with_lag_is_death() -> None:
    progress = watch()
    verdicts = [
        progress.judge(float(now), recovering=False, committed={PLACE: 5}, ends={PLACE: 9}) for now in range(0, 13, 3)
    ]
    assert verdicts[:4] == [None] * 4
    assert verdicts[4] is not None


def test_without_lag_standing_still_is_rest() -> None:
    progress = watch()
    for now in range(0, 100, 5):
        assert progress.judge(float(now), recovering=False, committed={PLACE: 9}, ends={PLACE: 9}) is None


def test_every_move_begins_the_wait_anew() -> None:
    progress = watch()
    for now in range(0, 100, 5):
        assert progress.judge(float(now), recovering=False, committed={PLACE: now}, ends={PLACE: 1000}) is None


def test_lag_that_begins_after_a_rest_has_its_whole_time() -> None:
    progress = watch()
    assert progress.judge(0.0, recovering=False, committed={PLACE: 9}, ends={PLACE: 9}) is None
    assert progress.judge(50.0, recovering=False, committed={PLACE: 9}, ends={PLACE: 9}) is None
    assert progress.judge(51.0, recovering=False, committed={PLACE: 9}, ends={PLACE: 12}) is None


def test_a_recovery_that_does_not_end_is_death() -> None:
    progress = watch()
    assert progress.judge(0.0, recovering=True, committed={}, ends={}) is None
    assert progress.judge(19.0, recovering=True, committed={}, ends={}) is None
    assert progress.judge(21.0, recovering=True, committed={}, ends={}) is not None
