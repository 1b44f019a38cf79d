"""The duplicate filter on a disk that damages files, or has no room: recognised, never counted by."""

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from domain.blocks import pack_position
from domain.errors import Unavailable
from stores.rocks.errors import FilterDamaged
from stores.rocks.filter import DuplicateFilter
from stores.rocks.memory import FilterMemory
from streams.ingest_block import BlockEvaluator
from streams.retry import services_away
from tests.support.waiting import eventually_async

DAY = 20_000
WINDOW = 36
Entry = tuple[bytes, bytes, int]


@pytest.fixture
def memory() -> FilterMemory:
    return FilterMemory()


def entries(count: int, seed: int = 1) -> list[Entry]:
    chance = Random(seed)
    return [(chance.randbytes(16), pack_position(number, 0), DAY - number % 3) for number in range(count)]


def written(path: Path, memory: FilterMemory, count: int = 20_000) -> list[Entry]:
    """A filter on disk: most of it in tables, its last block in the write-ahead log."""
    living = path.with_name("living")
    filter_ = DuplicateFilter(living, memory, "topic-a")
    known = entries(count)
    filter_.apply(known[:-10], count - 10)
    filter_.close()
    filter_ = DuplicateFilter(living, memory, "topic-a")
    filter_.apply(known[-10:], count)
    shutil.copytree(living, path)  # as a kill leaves it
    filter_.close()
    return known


def flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 0xFF
    path.write_bytes(content)


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def files(path: Path, pattern: str) -> list[Path]:
    found = sorted(path.glob(pattern), key=lambda one: one.stat().st_size)
    assert found, pattern
    return found


def replace_by_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("x")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "data of a table": lambda path: flip(files(path, "*.sst")[-1], 0.2),
    "end of a table": lambda path: flip(files(path, "*.sst")[-1], 0.999),
    "torn table": lambda path: truncate(files(path, "*.sst")[-1]),
    "table gone": lambda path: files(path, "*.sst")[-1].unlink(),
    "manifest": lambda path: flip(files(path, "MANIFEST-*")[-1], 0.5),
    "torn manifest": lambda path: truncate(files(path, "MANIFEST-*")[-1]),
    "manifest gone": lambda path: files(path, "MANIFEST-*")[-1].unlink(),
    "no pointer": lambda path: (path / "CURRENT").unlink(),
    "wrong pointer": lambda path: (path / "CURRENT").write_bytes(b"garbage"),
    "log": lambda path: flip(files(path, "*.log")[-1], 0.5),
    "torn log": lambda path: truncate(files(path, "*.log")[-1]),
    "not a directory": replace_by_file,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_filter_never_answers_wrongly(tmp_path: Path, memory: FilterMemory, damage: str) -> None:
    """What it says it has been brought to, it has; or it says that it is damaged, once, and the next one is empty."""
    path = tmp_path / "0"
    known = written(path, memory)
    DAMAGES[damage](path)
    filter_ = DuplicateFilter(path, memory, "topic-a")
    applied = filter_.applied
    try:
        found = filter_.earliest([identity for identity, _, _ in known], DAY, WINDOW)
    except FilterDamaged:
        with pytest.raises(FilterDamaged):
            filter_.earliest([known[0][0]], DAY, WINDOW)
        assert not path.exists()
        filter_ = DuplicateFilter(path, memory, "topic-a")
        assert (filter_.applied, filter_.gaps, filter_.discarded) == (-1, [], None)
    else:
        covered = {-1: 0, 19_990: 19_990, 20_000: 20_000}[applied]
        assert found[:covered] == [position for _, position, _ in known[:covered]]
    filter_.apply(known, 20_000)
    assert filter_.earliest([identity for identity, _, _ in known], DAY, WINDOW) == [one[1] for one in known]


def test_a_filter_of_another_format_is_thrown_away(tmp_path: Path, memory: FilterMemory) -> None:
    old = DuplicateFilter(tmp_path / "0", memory, "topic-a")
    old.apply(entries(10), 9)
    old._db.put(b"format", b"1")
    old.close()
    new = DuplicateFilter(tmp_path / "0", memory, "topic-a")
    assert (new.applied, new.days) == (-1, [])
    assert new.discarded is not None
    assert "format" in new.discarded


def test_a_filter_that_somebody_else_has_open_is_waited_for(tmp_path: Path, memory: FilterMemory) -> None:
    first = DuplicateFilter(tmp_path / "0", memory, "topic-a")
    first.apply(entries(10), 9)
    with pytest.raises(Unavailable):
        DuplicateFilter(tmp_path / "0", memory, "topic-a")
    first.close()
    assert DuplicateFilter(tmp_path / "0", memory, "topic-a").applied == 9


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 6 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def enlarge(place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=128m", str(place)], check=True)


def fill(filter_: DuplicateFilter, known: list[Entry], start: int = 0) -> int:
    """Blocks of 5,000 until the disk is full: how many entries were taken."""
    for first in range(start, len(known), 5_000):
        try:
            filter_.apply(known[first : first + 5_000], first + 5_000)
        except Unavailable:
            return first
    raise AssertionError("the disk took everything")


def test_a_full_disk_is_waited_for_and_nothing_that_was_taken_is_lost(small_disk: Path, memory: FilterMemory) -> None:
    filter_ = DuplicateFilter(small_disk / "0", memory, "topic-a")
    known = entries(200_000)
    taken = fill(filter_, known)
    assert taken > 0
    for _ in range(3):  # as until_available does
        with pytest.raises(Unavailable, match="No space left"):
            filter_.apply(known[taken : taken + 5_000], taken + 5_000)
    enlarge(small_disk)
    filter_.apply(known[taken : taken + 5_000], taken + 5_000)
    assert filter_.applied == taken + 5_000
    identities = [identity for identity, _, _ in known[: taken + 5_000]]
    assert filter_.earliest(identities, DAY, WINDOW) == [position for _, position, _ in known[: taken + 5_000]]
    assert filter_.earliest([known[-1][0]], DAY, WINDOW) == [None]
    filter_.close()


def test_a_disk_that_is_full_at_opening_is_waited_for(small_disk: Path, memory: FilterMemory) -> None:
    (small_disk / "ballast").write_bytes(bytes((6 << 20) - 8_192))
    for _ in range(2):
        with pytest.raises(Unavailable):
            DuplicateFilter(small_disk / "0", memory, "topic-a")
    (small_disk / "ballast").unlink()
    assert DuplicateFilter(small_disk / "0", memory, "topic-a").applied == -1


async def test_a_block_waits_in_place_for_room_and_is_entered_once_there_is_some(
    small_disk: Path, memory: FilterMemory
) -> None:
    filter_ = DuplicateFilter(small_disk / "0", memory, "topic-a")
    known = entries(200_000)
    taken = fill(filter_, known)
    block: Any = SimpleNamespace(accepted=known[taken : taken + 5_000], last_offset=taken + 5_000)
    with ThreadPoolExecutor(max_workers=1) as evaluation:
        impatient, patient = (
            BlockEvaluator(
                topic_id="topic-a",
                partition=0,
                partitions=1,
                shards=1,
                duplicates=filter_,
                evaluation=evaluation,
                budget_s=budget_s,
            )
            for budget_s in (0.0, 30.0)
        )
        with pytest.raises(Unavailable, match="No space left"):
            await impatient.enter(block, DAY - WINDOW)
        entering = asyncio.create_task(patient.enter(block, DAY - WINDOW))
        await eventually_async(lambda: "disk" in services_away(), 10)
        enlarge(small_disk)
        await asyncio.wait_for(entering, 20)
    assert filter_.applied == block.last_offset
    filter_.close()
