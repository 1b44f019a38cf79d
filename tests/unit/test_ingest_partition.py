"""What a partition takes, leaves and acknowledges, before any block is written."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from domain.records import LogRecord
from runtime.clock import SystemClock
from runtime.settings import IngestSettings, Settings
from schemas.ledger import LedgerPartition
from streams.ingest_partition import STUCK_AFTER_S, GapError, Partition, StuckError

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


async def behind_for_long(own: Partition) -> None:
    """Idle and behind the end of the log, and as if that had been seen longer ago than is allowed."""
    await own._idle()
    assert own._behind_since is not None
    own._behind_since -= 2 * STUCK_AFTER_S


async def test_records_that_do_not_come_for_too_long_end_the_worker() -> None:
    own = partition()
    await behind_for_long(own)
    with pytest.raises(StuckError):
        await own._idle()


async def test_a_partition_whose_records_come_is_not_stuck_however_long_ago_it_was_behind() -> None:
    own = partition()
    await behind_for_long(own)
    await own.accept(record(10), Event())
    own._records.clear()  # written meanwhile
    await own._idle()
    assert own._behind_since is not None
