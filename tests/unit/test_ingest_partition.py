"""What a partition takes, leaves and acknowledges, before any block is written."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from domain.errors import Unavailable
from domain.records import LogRecord
from runtime.clock import SystemClock
from runtime.settings import IngestSettings, KafkaSettings, Settings
from schemas.ledger import LedgerPartition
from streams.ingest_partition import GapError, Partition, RejectStreakError, StuckError
from tests.support.waiting import eventually_async

STATE = LedgerPartition(topic_id="t", partition=0, epoch=1, generation=1, last_offset=9, version=1, idle_as_of=None)


class Log:
    """A log that has every offset but those it was told to miss."""

    def __init__(self, missing: set[int]) -> None:
        self._missing = missing

    async def next_at_or_after(self, _partition: int, offset: int) -> int:
        while offset in self._missing:
            offset += 1
        return offset


def partition(missing: set[int] | None = None, block_max_events: int = 100) -> Partition:
    settings = Settings(ingest=IngestSettings(block_max_events=block_max_events))

    async def end_offset(_partition: int) -> int:
        return 12

    deps: Any = SimpleNamespace(
        settings=settings, budget_s=0.0, log=Log(missing or set()), clock=SystemClock(), end_offset=end_offset
    )
    return Partition(deps, STATE, cast("Any", None), cast("Any", None), lambda: True)


class Event:
    def __init__(self) -> None:
        self.acknowledged = False

    def ack(self) -> None:
        self.acknowledged = True


def record(offset: int, size: int = 100) -> LogRecord:
    return LogRecord(
        offset=offset,
        logged_at_ms=0,
        received_at_ms=0,
        tenant="acme",
        environment="live",
        version=1,
        value=b"x" * size,
    )


async def test_what_the_ledger_has_as_done_is_acknowledged_and_not_taken_again() -> None:
    own, event = partition(), Event()
    await own.accept(record(9), event)
    assert (event.acknowledged, own.next_offset) == (True, 10)


async def test_a_second_delivery_of_what_is_held_is_left_to_the_first() -> None:
    own, first, second = partition(), Event(), Event()
    await own.accept(record(10), first)
    await own.accept(record(10), second)
    assert (first.acknowledged, second.acknowledged, own.next_offset) == (False, False, 11)


async def test_a_record_that_the_log_has_but_that_did_not_come_ends_the_worker() -> None:
    own = partition()
    await own.accept(record(10), Event())
    with pytest.raises(GapError):
        await own.accept(record(12), Event())


async def test_a_full_block_holds_the_reader_up_until_the_partition_is_lost() -> None:
    own, event = partition(block_max_events=1), Event()
    await own.accept(record(10, size=1000), Event())
    waiting = asyncio.ensure_future(own.accept(record(11), event))
    await asyncio.sleep(0)
    assert not waiting.done()
    own.close()
    await waiting
    assert (own.next_offset, event.acknowledged) == (11, False)


@pytest.mark.parametrize(("size", "ages"), [(100, 1), (75_000, 2), (1_000_000, 12)])
async def test_a_block_stays_open_longer_the_faster_it_fills_up_to_twelve_times(size: int, ages: int) -> None:
    own, age_s = partition(block_max_events=100_000), Settings().block_age_s
    await own.accept(record(10, size=size), Event())
    assert not own._is_due()
    own._opened_at -= (ages - 0.5) * age_s
    assert not own._is_due()
    own._opened_at -= age_s
    assert own._is_due()
    assert await own._is_closed()


@pytest.mark.parametrize(("partitions", "age_s"), [(1, 0.1), (4, 0.1), (8, 0.2), (64, 0.25)])
def test_with_more_partitions_blocks_stay_open_longer_up_to_a_quarter_of_a_second(
    partitions: int, age_s: float
) -> None:
    assert Settings(kafka=KafkaSettings(raw_partitions=partitions)).block_age_s == age_s
    set_longer = Settings(kafka=KafkaSettings(raw_partitions=64), ingest=IngestSettings(block_max_age_s=1.0))
    assert set_longer.block_age_s == 1.0


async def behind_for_long(own: Partition) -> None:
    """Idle and behind the end of the log, and as if that had been seen longer ago than is allowed."""
    await own._idle()
    assert own._behind_since is not None
    own._behind_since -= 2 * IngestSettings().stuck_after_s


async def test_records_that_do_not_come_for_too_long_end_the_worker() -> None:
    own = partition()
    await behind_for_long(own)
    with pytest.raises(StuckError):
        await own._idle()


async def test_a_partition_whose_records_come_is_not_stuck_however_long_ago_it_was_behind() -> None:
    own = partition()
    await behind_for_long(own)
    await own.accept(record(10), Event())
    own._held.clear()  # written meanwhile
    await own._idle()
    assert own._behind_since is not None


class Writer:
    """Writes down what is asked of it; a block is stored when the test says so."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.stored: dict[int, asyncio.Event] = {}

    def _note(self, step: str, *blocks: Any) -> None:
        self.steps.append(" ".join([step, *(str(block.intent.first_offset) for block in blocks)]))

    async def prepare(self, records: list[LogRecord], _catalog: object) -> Any:
        first, last = records[0].offset, records[-1].offset
        self.stored[first] = asyncio.Event()
        block = SimpleNamespace(
            intent=SimpleNamespace(first_offset=first, last_offset=last, version=1),
            outcomes=SimpleNamespace(reject_streak=lambda before: (before, 0)),
            token=str(first),
        )
        block.without_rows = lambda: block
        self._note("prepare", block)
        return block

    async def begin(self, block: Any) -> Any:
        self._note("intent", block)
        return block

    async def enter(self, block: Any) -> None:
        self._note("enter", block)

    async def store(self, opened: Any, _block: Any) -> Any:
        await self.stored[opened.intent.first_offset].wait()
        self._note("stored", opened)
        return opened

    async def finish(self, opened: Any) -> None:
        self._note("done", opened)

    async def finish_and_begin(self, opened: Any, following: Any) -> Any:
        self._note("done and intent", opened, following)
        return following

    async def tell(self, block: Any) -> None:
        self._note("deltas", block)


class Noted(Event):
    def __init__(self, offset: int, steps: list[str]) -> None:
        super().__init__()
        self._offset = offset
        self._steps = steps

    def ack(self) -> None:
        self._steps.append(f"ack {self._offset}")


class Versions:
    def current(self) -> None:
        return None

    async def wait_for(self, _version: int, _within_s: float) -> None:
        return


@contextlib.asynccontextmanager
async def written(writer: Writer, *, block_max_events: int = 1) -> AsyncIterator[Partition]:
    """A partition, being written; by default every record is a block."""
    deps: Any = SimpleNamespace(
        settings=Settings(ingest=IngestSettings(block_max_events=block_max_events)), budget_s=0.0, catalog=Versions()
    )
    own = Partition(deps, STATE, cast("Any", writer), cast("Any", writer), lambda: True)
    running = asyncio.create_task(own.run())
    try:
        yield own
    finally:
        running.cancel()
        await asyncio.wait({running})


async def test_a_block_is_judged_while_the_one_before_is_inserted_and_begun_with_its_done() -> None:
    writer = Writer()
    async with written(writer) as own:
        await own.accept(record(10, size=1000), Noted(10, writer.steps))
        await own.accept(record(11, size=1000), Noted(11, writer.steps))
        await eventually_async(lambda: "prepare 11" in writer.steps, 5)
        assert writer.steps == ["prepare 10", "intent 10", "enter 10", "prepare 11"]
        writer.stored[10].set()
        await eventually_async(lambda: "ack 10" in writer.steps, 5)
        assert writer.steps[4:] == ["stored 10", "done and intent 10 11", "enter 11", "deltas 10", "ack 10"]


async def test_a_block_that_is_old_but_not_full_grows_until_the_one_before_is_stored() -> None:
    writer = Writer()
    async with written(writer, block_max_events=1_000) as own:
        await own.accept(record(10), Noted(10, writer.steps))
        await eventually_async(lambda: "enter 10" in writer.steps, 5)
        await own.accept(record(11), Noted(11, writer.steps))
        own._opened_at -= 10
        await asyncio.sleep(0.05)
        assert own._due_at() < asyncio.get_running_loop().time()
        assert "prepare 11" not in writer.steps
        await own.accept(record(12), Noted(12, writer.steps))
        writer.stored[10].set()
        await eventually_async(lambda: 11 in writer.stored, 5)
        writer.stored[11].set()
        await eventually_async(lambda: own.done_offset == 12, 5)
        assert 12 not in writer.stored


async def test_done_commits_alone_and_at_once_when_no_next_block_is_ready() -> None:
    writer = Writer()
    async with written(writer) as own:
        await own.accept(record(10, size=1000), Noted(10, writer.steps))
        await eventually_async(lambda: 10 in writer.stored, 5)
        writer.stored[10].set()
        await eventually_async(lambda: own.done_offset == 10, 5)
        assert writer.steps == ["prepare 10", "intent 10", "enter 10", "stored 10", "done 10", "deltas 10", "ack 10"]


async def test_a_block_that_cannot_be_stored_is_never_done() -> None:
    class Failing(Writer):
        async def store(self, _opened: Any, _block: Any) -> Any:
            raise Unavailable("clickhouse", "away for too long")

    writer = Failing()
    deps: Any = SimpleNamespace(settings=Settings(), budget_s=0.0, catalog=Versions())
    own = Partition(deps, STATE, cast("Any", writer), cast("Any", writer), lambda: True)
    event = Event()
    await own.accept(record(10), event)
    with pytest.raises(Unavailable):
        await own.run()
    assert (event.acknowledged, own.done_offset) == (False, 9)


class Judging(Writer):
    """Every record from BAD on holds as many rejected events as its size; blocks are stored at once."""

    BAD = 12

    async def prepare(self, records: list[LogRecord], _catalog: object) -> Any:
        block = await super().prepare(records, _catalog)
        self.stored[block.intent.first_offset].set()
        bad = sum(len(one.value) for one in records if one.offset >= self.BAD)
        whole = all(one.offset >= self.BAD for one in records)
        block.outcomes = SimpleNamespace(
            reject_streak=lambda before: (before + bad, before + bad) if whole else (max(before, bad), bad),
            rejected=[SimpleNamespace(code="malformed_json")],
        )
        return block


async def test_the_brake_stops_at_the_record_that_is_too_much_and_finishes_what_comes_before() -> None:
    writer = Judging()
    ingest = IngestSettings(reject_streak_max=250, block_max_age_s=0.05)
    deps: Any = SimpleNamespace(settings=Settings(ingest=ingest), budget_s=0.0, catalog=Versions())
    own = Partition(deps, STATE, cast("Any", writer), cast("Any", writer), lambda: True)
    for offset in range(10, 18):  # one block
        await own.accept(record(offset, size=100), Noted(offset, writer.steps))
    with pytest.raises(RejectStreakError, match="300 events in a row were rejected, the last as malformed_json"):
        await own.run()
    assert own.done_offset == 13
    assert [step for step in writer.steps if step.startswith("ack")] == [f"ack {offset}" for offset in range(10, 14)]
    assert not any(step.endswith(("intent 14", "14 14")) for step in writer.steps)


@pytest.mark.parametrize(("before", "bad_from", "done"), [(250, 10, 9), (100_000, 10, 9), (100_000, 99, 10)])
async def test_a_streak_of_a_former_tenure_goes_on_and_stops_no_sound_event(
    before: int, bad_from: int, done: int
) -> None:
    writer = Judging()
    writer.BAD = bad_from
    ingest = IngestSettings(reject_streak_max=250, block_max_age_s=0.05)
    deps: Any = SimpleNamespace(settings=Settings(ingest=ingest), budget_s=0.0, catalog=Versions())
    own = Partition(deps, STATE, cast("Any", writer), cast("Any", writer), lambda: True, rejected_in_a_row=before)
    await own.accept(record(10, size=100), Noted(10, writer.steps))
    running = asyncio.create_task(own.run())
    await eventually_async(lambda: running.done() or own.done_offset == 10, 5)
    assert own.done_offset == done
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled() or isinstance(running.exception(), RejectStreakError)
