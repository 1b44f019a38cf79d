"""Records are answered as acknowledged only when all of them are, and a failure is told once nothing is on its way."""

import asyncio
import gc
import weakref
from typing import Any

import pytest
from aiokafka.errors import KafkaError, RecordTooLargeError

from domain.errors import Unavailable
from runtime.settings import KafkaSettings
from stores.kafka import Producer


class Client:
    """Takes records and says what became of them when it is told to."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, bytes, list[tuple[str, bytes]]]] = []
        self.waiting: list[asyncio.Future[Any]] = []
        self.stopped = False

    async def send(
        self, _topic: str, value: bytes, _key: bytes | None, partition: int, *, headers: list[tuple[str, bytes]]
    ) -> "asyncio.Future[Any]":
        if not value:
            raise RecordTooLargeError
        self.sent.append((partition, value, headers))
        self.waiting.append(asyncio.get_running_loop().create_future())
        return self.waiting[-1]

    async def stop(self) -> None:
        self.stopped = True


class ProducerOf(Producer):
    """A producer that is connected to `client`."""

    def __init__(self, client: Client, request_timeout_s: float = 60.0) -> None:
        super().__init__(KafkaSettings(request_timeout_s=request_timeout_s))
        self._client = client


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_records_of_a_request_are_sent_at_once_and_answered_when_all_are_acknowledged() -> None:
    client = Client()
    task = asyncio.create_task(ProducerOf(client).send_all("t", [(0, b"1"), (2, b"2")], headers=[("h", b"x")]))
    await turns()
    assert client.sent == [(0, b"1", [("h", b"x")]), (2, b"2", [("h", b"x")])]
    client.waiting[1].set_result("second")
    await turns()
    assert not task.done()
    client.waiting[0].set_result("first")
    await task


async def test_a_request_fails_when_one_of_its_records_does_and_only_after_all_are_settled() -> None:
    client = Client()
    producer = ProducerOf(client)
    task = asyncio.create_task(producer.send_all("t", [(0, b"1"), (2, b"2")]))
    await turns()
    client.waiting[0].set_exception(KafkaError())
    await turns()
    assert not task.done()
    client.waiting[1].set_result("second")
    with pytest.raises(Unavailable):
        await task
    await turns()
    assert client.stopped  # its sequence has a hole


async def test_a_record_that_cannot_be_sent_fails_its_request_after_those_before_it_are_settled() -> None:
    client = Client()
    task = asyncio.create_task(ProducerOf(client).send_all("t", [(0, b"1"), (1, b""), (2, b"2")]))
    await turns()
    assert [partition for partition, *_ in client.sent] == [0]
    assert not task.done()
    client.waiting[0].set_result("first")
    with pytest.raises(Unavailable):
        await task


async def test_nothing_is_sent_while_a_record_is_overdue() -> None:
    client = Client()
    producer = ProducerOf(client, request_timeout_s=0.0)
    with pytest.raises(Unavailable):
        await producer.send_all("t", [(0, b"1"), (1, b"2")])
    client.waiting[0].set_result("first")
    await turns()
    with pytest.raises(Unavailable):
        await producer.send("t", 0, value=b"3")
    client.waiting[1].set_result("second")
    await turns()
    with pytest.raises(Unavailable):  # as late again, but it was sent
        await producer.send("t", 0, value=b"3")
    assert [value for _, value, _ in client.sent] == [b"1", b"2", b"3"]


async def test_what_failed_is_freed_without_the_garbage_collector() -> None:
    client = Client()
    producer = ProducerOf(client)
    value: Any = memoryview(b"1")
    held = weakref.ref(value)
    tasks = [
        asyncio.create_task(producer.send_all("t", [(0, value), (1, value)])),
        asyncio.create_task(producer.send("t", 0, value=value)),
    ]
    del value
    gc.collect()
    gc.disable()
    try:
        await turns()
        for waiting in client.waiting:
            waiting.set_exception(KafkaError())
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
        tasks.clear()
        outcomes.clear()
        client.waiting.clear()
        client.sent.clear()
        await turns()
        assert held() is None
    finally:
        gc.enable()
