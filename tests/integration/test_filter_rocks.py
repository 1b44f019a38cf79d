"""The duplicate filter on a real RocksDB."""

from pathlib import Path

import pytest

from domain.blocks import pack_position
from domain.identity import event_identity
from stores.rocks.filter import DuplicateFilter
from stores.rocks.memory import FilterMemory

DAY = 20_000
WINDOW = 36


def identity(number: int) -> bytes:
    return event_identity("acme", "live", "", str(number))


@pytest.fixture
def memory() -> FilterMemory:
    return FilterMemory()


@pytest.fixture
def filter_(tmp_path: Path, memory: FilterMemory) -> DuplicateFilter:
    return DuplicateFilter(tmp_path / "0", memory, "topic-a")


def test_what_was_applied_is_found_after_a_reopen_with_its_position(tmp_path: Path, memory: FilterMemory) -> None:
    first = DuplicateFilter(tmp_path / "0", memory, "topic-a")
    first.apply([(identity(1), pack_position(7, 3), DAY)], 9)
    first.close()
    again = DuplicateFilter(tmp_path / "0", memory, "topic-a")
    assert again.applied == 9
    assert again.earliest([identity(1), identity(2)], DAY, WINDOW) == [pack_position(7, 3), None]


def test_the_smallest_position_within_the_window_counts(filter_: DuplicateFilter) -> None:
    filter_.apply([(identity(1), pack_position(5, 0), DAY), (identity(1), pack_position(90, 0), DAY + 40)], 90)
    assert filter_.earliest([identity(1)], DAY + 30, WINDOW) == [pack_position(5, 0)]
    assert filter_.earliest([identity(1)], DAY + 40, WINDOW) == [pack_position(90, 0)]
    assert filter_.earliest([identity(1)], DAY + 40, 40) == [pack_position(5, 0)]


def test_a_block_across_midnight_is_one_write(filter_: DuplicateFilter) -> None:
    filter_.apply([(identity(1), pack_position(1, 0), DAY), (identity(2), pack_position(2, 0), DAY + 1)], 2)
    assert filter_.days == [DAY, DAY + 1]
    assert filter_.earliest([identity(1), identity(2)], DAY + 1, WINDOW) == [pack_position(1, 0), pack_position(2, 0)]


def test_days_past_the_window_are_dropped(tmp_path: Path, memory: FilterMemory) -> None:
    filter_ = DuplicateFilter(tmp_path / "0", memory, "topic-a")
    filter_.apply([(identity(day), pack_position(day, 0), day) for day in range(DAY, DAY + 5)], DAY + 5)
    filter_.forget_before(DAY + 3)
    filter_.close()
    again = DuplicateFilter(tmp_path / "0", memory, "topic-a")
    assert again.days == [DAY + 3, DAY + 4]


def test_what_is_loaded_keeps_a_smaller_position(filter_: DuplicateFilter) -> None:
    filter_.apply([(identity(1), pack_position(5, 0), DAY), (identity(2), pack_position(9, 0), DAY)], 9)
    filter_.begin(12, [(10, 12)])
    filter_.load(DAY, b"".join([identity(1), pack_position(8, 0), identity(2), pack_position(3, 0)]))
    filter_.load(DAY - 1, identity(3) + pack_position(1, 0))
    found = filter_.earliest([identity(1), identity(2), identity(3)], DAY, WINDOW)
    assert found == [pack_position(5, 0), pack_position(3, 0), pack_position(1, 0)]
    assert (filter_.applied, filter_.gaps) == (12, [(10, 12)])


def test_nothing_is_missed_while_what_was_found_on_disk_is_learnt(tmp_path: Path, memory: FilterMemory) -> None:
    first = DuplicateFilter(tmp_path / "0", memory, "topic-a")
    held = [(identity(number), pack_position(number, 0), DAY - number % 3) for number in range(50)]
    first.apply(held, 50)
    first.close()
    again = DuplicateFilter(tmp_path / "0", memory, "topic-a")
    for step in range(12):
        held.append((identity(100 + step), pack_position(100 + step, 0), DAY - step % 4))
        again.apply(held[-1:], 100 + step)
        asked = [one for one, _, _ in held] + [identity(number) for number in range(1000, 1050)]
        assert again.earliest(asked, DAY, WINDOW) == [at for _, at, _ in held] + [None] * 50
        again.learn(7)
    again.load(DAY, identity(500) + pack_position(2, 0))
    assert again.earliest([identity(500)], DAY, WINDOW) == [pack_position(2, 0)]


def test_what_is_still_to_be_loaded_is_known_after_a_reopen(tmp_path: Path, memory: FilterMemory) -> None:
    first = DuplicateFilter(tmp_path / "0", memory, "topic-a")
    first.begin(99, [(0, 40), (60, 120)])
    first.loaded(70, 99)
    first.loaded(0, 10)
    first.close()
    again = DuplicateFilter(tmp_path / "0", memory, "topic-a")
    assert (again.applied, again.gaps) == (99, [(11, 40), (60, 69)])


def test_applied_never_goes_back(filter_: DuplicateFilter) -> None:
    filter_.apply([], 12)
    filter_.apply([], 3)
    assert filter_.applied == 12


def test_a_recreated_topic_finds_an_empty_filter(tmp_path: Path, memory: FilterMemory) -> None:
    old = DuplicateFilter(tmp_path / "0", memory, "topic-a")
    old.apply([(identity(1), pack_position(5, 0), DAY)], 9)
    old.close()
    new = DuplicateFilter(tmp_path / "0", memory, "topic-b")
    assert new.applied == -1
    assert new.earliest([identity(1)], DAY, WINDOW) == [None]


def test_clear_forgets_everything(filter_: DuplicateFilter) -> None:
    filter_.apply([(identity(1), pack_position(5, 0), DAY)], 9)
    filter_.clear()
    assert filter_.applied == -1
    assert filter_.earliest([identity(1)], DAY, WINDOW) == [None]
