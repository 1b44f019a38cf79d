"""A partition that cannot write holds up no other, and takes what waits in the order in which it came."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from domain.records import LogRecord
from runtime.settings import Settings, WorkerSettings
from schemas.topics import USAGE_RAW
from streams.ingest import Ingest
from streams.ingest_inbox import Inbox
from tests.support.waiting import eventually_async


class Taker:
    """Stands for a partition: takes records while it has room."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.room = asyncio.Event()

    async def accept(self, record: LogRecord, _event: Any) -> None:
        await self.room.wait()
        if record.value == b"gap":
            raise LookupError("a gap")
        self.taken.append(record.offset)


def record(offset: int, value: bytes = b"x" * 100) -> LogRecord:
    return LogRecord(
        offset=offset, logged_at_ms=0, received_at_ms=0, tenant="a", environment="live", version=0, value=value
    )


class Stream:
    """A Faust stream of messages (partition, offset) that ends."""

    def __init__(self, messages: list[tuple[int, int]]) -> None:
        self._messages = messages
        self.channel = SimpleNamespace(queue=asyncio.Queue[Any]())

    def noack(self) -> "Stream":
        return self

    async def events(self) -> AsyncIterator[Any]:
        for partition, offset in self._messages:
            message = SimpleNamespace(
                partition=partition, offset=offset, tp=TP(USAGE_RAW, partition), timestamp=0.0, value=b"x", headers=()
            )
            yield SimpleNamespace(message=message)


@contextlib.asynccontextmanager
async def fed(*inboxes: Inbox) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.create_task(inbox.feed()) for inbox in inboxes]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def role(inboxes: dict[int, Inbox], buffer_max_bytes: int = 1000) -> Ingest:
    consumer = SimpleNamespace(flow_active=True, pause_partitions=lambda _: None)
    app: Any = SimpleNamespace(consumer=consumer, rebalancing=False)
    deps: Any = SimpleNamespace(settings=Settings(worker=WorkerSettings(buffer_max_bytes=buffer_max_bytes)))
    found = Ingest(app, deps)
    found._inboxes = inboxes
    return found


async def test_a_partition_without_room_holds_up_no_other() -> None:
    blocked, free = Taker(), Taker()
    inboxes = {0: Inbox(blocked.accept), 1: Inbox(free.accept)}
    own = role(inboxes)
    free.room.set()
    async with fed(*inboxes.values()):
        await own.read(Stream([(0, 5), (0, 6), (1, 9), (0, 7), (1, 10), (2, 1)]))
        await eventually_async(lambda: free.taken == [9, 10], 5)
        assert (blocked.taken, len(inboxes[0]), inboxes[0].next_offset) == ([], 3, 8)
        # protocol 16: what waits in its inbox is not lost, and only there it waits.
        assert (own._is_drained(0), own._is_drained(1)) == (False, True)
        blocked.room.set()
        await eventually_async(lambda: own._is_drained(0), 5)
        assert blocked.taken == [5, 6, 7]
        assert (inboxes[0].bytes, inboxes[0].next_offset) == (0, 0)


async def test_a_partition_is_fetched_no_further_while_its_share_of_the_buffer_waits() -> None:
    taker = Taker()
    own = role({0: Inbox(taker.accept), 1: Inbox(taker.accept)})
    sources = [TP(USAGE_RAW, 0), TP(USAGE_RAW, 1), TP("other", 0), TP(USAGE_RAW, 7)]
    for offset in range(5):
        own._inboxes[0].post(record(offset), None)
    assert [own.is_full(tp) for tp in sources] == [False] * 4
    own._inboxes[0].post(record(5), None)
    assert [own.is_full(tp) for tp in sources] == [True, False, False, False]
    taker.room.set()
    async with fed(own._inboxes[0]):
        await eventually_async(lambda: not own.is_full(sources[0]), 5)


async def test_very_many_small_records_fill_an_inbox_too() -> None:
    own = role({0: Inbox(Taker().accept)}, buffer_max_bytes=1 << 20)
    for offset in range(4097):
        own._inboxes[0].post(record(offset, b""), None)
    assert own.is_full(TP(USAGE_RAW, 0))


async def test_what_a_partition_cannot_take_ends_its_feeding() -> None:
    taker = Taker()
    taker.room.set()
    inbox = Inbox(taker.accept)
    async with fed(inbox) as [feeding]:
        inbox.post(record(5, b"gap"), None)
        inbox.post(record(6), None)
        with pytest.raises(LookupError):
            await feeding
        assert taker.taken == []
