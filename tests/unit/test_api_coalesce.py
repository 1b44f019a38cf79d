"""Events become records: split by size, shared while one is in flight, answered only when acknowledged."""

import asyncio
import gc
import json
import weakref
from collections.abc import Sequence
from typing import Any

from api.coalesce import Origin, RecordWriter, records_of
from domain.errors import Unavailable

ORIGIN = Origin(tenant="acme", environment="live", received_at_ms=1000, version=3)


class Sender:
    """Holds every record until it is told what became of it."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, list[int], dict[str, bytes]]] = []
        self.waiting: list[asyncio.Future[None]] = []

    async def send(
        self,
        topic: str,
        partition: int,
        *,
        value: bytes,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> object:
        self.sent.append((partition, json.loads(value), dict(headers)))
        self.waiting.append(asyncio.get_running_loop().create_future())
        await self.waiting[-1]
        return None

    async def send_all(
        self, topic: str, records: Sequence[tuple[int, bytes]], *, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        await asyncio.gather(*[self.send(topic, one, value=value, headers=headers) for one, value in records])


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_records_hold_all_events_in_order_and_stay_below_the_limit() -> None:
    events = [b"%d" % number for number in range(1000)]
    records = list(records_of(events, 100))
    assert [number for record in records for number in json.loads(record)] == list(range(1000))
    assert all(len(record) <= 100 for record in records)
    assert list(records_of([], 100)) == []


def test_an_event_larger_than_a_record_is_a_record_of_its_own() -> None:
    large = b'"%b"' % (b"x" * 200)
    assert list(records_of([b"1", large, b"2"], 100)) == [b"[1]", b"[%b]" % large, b"[2]"]


async def test_singles_share_a_record_while_one_is_in_flight_and_are_answered_after_their_own() -> None:
    sender = Sender()
    writer = RecordWriter(sender, 1000)
    tasks = [asyncio.create_task(writer.write_single(0, b"%d" % number, ORIGIN)) for number in range(5)]
    await turns()
    assert [events for _, events, _ in sender.sent] == [[0]]
    assert writer.receipt_to_join("acme", "live", 0) == 1000
    sender.waiting[0].set_result(None)
    await turns()
    assert [task.done() for task in tasks] == [True, False, False, False, False]
    assert [events for _, events, _ in sender.sent] == [[0], [1, 2, 3, 4]]
    sender.waiting[1].set_result(None)
    await asyncio.gather(*tasks)
    assert writer.receipt_to_join("acme", "live", 0) is None
    assert writer._lanes == {}


async def test_a_shared_record_carries_its_first_receipt_time_and_its_newest_version() -> None:
    sender = Sender()
    writer = RecordWriter(sender, 1000)
    origins = [
        ORIGIN,
        ORIGIN,
        Origin(tenant="acme", environment="live", received_at_ms=1005, version=4),
        Origin(tenant="other", environment="live", received_at_ms=1006, version=4),
    ]
    tasks = [asyncio.create_task(writer.write_single(0, b"1", origin)) for origin in origins]
    await turns()
    assert [headers["tenant"] for _, _, headers in sender.sent] == [b"acme", b"other"]
    sender.waiting[0].set_result(None)
    await turns()
    _, events, headers = sender.sent[2]
    assert (events, headers["received_at_ms"], headers["version"]) == ([1, 1], b"1000", b"4")
    for waiting in sender.waiting[1:]:
        waiting.set_result(None)
    await asyncio.gather(*tasks)


async def test_a_full_shared_record_leaves_without_waiting() -> None:
    sender = Sender()
    writer = RecordWriter(sender, 10)
    tasks = [asyncio.create_task(writer.write_single(0, b"1234", ORIGIN)) for _ in range(4)]
    await turns()
    assert [events for _, events, _ in sender.sent] == [[1234], [1234], [1234]]
    for round_ in range(4):
        sender.waiting[round_].set_result(None)
        await turns()
    await asyncio.gather(*tasks)


async def test_a_failed_record_fails_all_its_requests_and_no_other() -> None:
    sender = Sender()
    writer = RecordWriter(sender, 1000)
    tasks = [asyncio.create_task(writer.write_single(0, b"%d" % number, ORIGIN)) for number in range(3)]
    await turns()
    sender.waiting[0].set_exception(Unavailable("kafka", "away"))
    await turns()
    sender.waiting[1].set_result(None)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable, type(None), type(None)]


async def test_a_request_of_many_is_one_send_of_its_records() -> None:
    sender = Sender()
    groups = {0: [b"1", b"2"], 2: [b"345678"]}
    task = asyncio.create_task(RecordWriter(sender, 4).write_groups(groups, ORIGIN))
    await turns()
    assert [(partition, events) for partition, events, _ in sender.sent] == [(0, [1]), (0, [2]), (2, [345678])]
    for waiting in sender.waiting:
        waiting.set_result(None)
    await task


async def test_a_client_that_goes_away_takes_nothing_back() -> None:
    sender = Sender()
    writer = RecordWriter(sender, 1000)
    first, gone, third = (asyncio.create_task(writer.write_single(0, b"%d" % number, ORIGIN)) for number in range(3))
    await turns()
    gone.cancel()
    sender.waiting[0].set_result(None)
    await turns()
    assert sender.sent[1][1] == [1, 2]
    sender.waiting[1].set_result(None)
    await asyncio.gather(first, third)


async def test_what_a_failed_request_held_is_freed_without_the_garbage_collector() -> None:
    sender = Sender()
    writer = RecordWriter(sender, 1000)
    event: Any = memoryview(b"1")
    held = weakref.ref(event)
    tasks = [
        asyncio.create_task(writer.write_single(2, event, ORIGIN)),
        asyncio.create_task(writer.write_single(2, event, ORIGIN)),
    ]
    del event
    gc.collect()
    gc.disable()
    try:
        for number in range(2):
            await turns()
            sender.waiting[number].set_exception(Unavailable("kafka", "away"))
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * 2
        tasks.clear()
        outcomes.clear()
        sender.waiting.clear()
        await turns()
        assert held() is None
    finally:
        gc.enable()
