"""Kafka for the processes that are no Faust workers: a producer that says when the log has a record, and whole topics."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from domain.errors import Unavailable
from runtime.settings import KafkaSettings

SERVICE = "kafka"
Headers = Sequence[tuple[str, bytes]]
_Outgoing = tuple[int, bytes | None, bytes]  # partition, key, value

# A batch is sent at this size at the latest; a record of usage.raw is half of it, one of the other topics may be larger.
_BATCH_MAX_BYTES = 1 << 20
_REQUEST_MAX_BYTES = 20 << 20
# Asked of a partition at a time; a record that is larger comes all the same. With more, what reading a long topic takes
# stays with the process for good.
_FETCH_BYTES = 256 << 10
_POLL_MS = 500
_FIRST_RETRY_S = 0.5
_MS = 1000

_log = structlog.get_logger(__name__)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A record as read. `key` and `value` are None where Kafka has none (a tombstone)."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Producer:
    """Sends records and waits until every in-sync replica has them (acks=all).

    The client is idempotent: it repeats a send by itself for as long as it takes, in order and without doubling. So a
    record given up after `request_timeout_s` may still arrive later; callers must be safe to repeat. While such records
    are unresolved the broker counts as away and every send is refused at once, which bounds memory; their arrival is
    the sign that it is back.
    """

    def __init__(self, settings: KafkaSettings, inflight_max_bytes: int = 256 << 20) -> None:
        self._settings = settings
        self._inflight_max_bytes = inflight_max_bytes
        self._inflight_bytes = 0
        self._overdue = 0
        self._client: AIOKafkaProducer | None = None
        self._opening: asyncio.Task[AIOKafkaProducer] | None = None
        self._retired: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connects. Raises Unavailable when the broker does not answer in time; a later send tries again."""
        await self._connected()

    async def stop(self) -> None:
        """Closes after what is in flight was acknowledged, or `request_timeout_s` at the latest."""
        if self._opening is not None:
            self._opening.cancel()
        client, self._client = self._client, None
        if client is not None:
            await self._close(client)
        if self._retired:
            await asyncio.wait(self._retired)

    async def send(
        self, topic: str, partition: int, *, value: bytes, key: bytes | None = None, headers: Headers = ()
    ) -> RecordMetadata:
        """Returns the record's place once it is acknowledged. Raises Unavailable within `request_timeout_s` if not."""
        [placed] = await self._send([(partition, key, value)], topic, headers)
        return placed

    async def send_all(self, topic: str, records: Sequence[tuple[int, bytes]], *, headers: Headers = ()) -> None:
        """Sends records, each a partition and a value, and returns once all are acknowledged, as `send` of each.

        Raises Unavailable if one is not; then nothing of the others is on its way any more, unless it is overdue.
        """
        await self._send([(partition, None, value) for partition, value in records], topic, headers)

    async def _send(self, records: Sequence[_Outgoing], topic: str, headers: Headers) -> list[RecordMetadata]:
        size = sum([len(value) + len(key or b"") for _, key, value in records])
        if self._overdue:
            raise Unavailable(SERVICE, "the log does not acknowledge what was sent before")
        if self._inflight_bytes + size > self._inflight_max_bytes:
            raise Unavailable(SERVICE, "too much is waiting for the log")
        self._inflight_bytes += size
        delivery = asyncio.ensure_future(self._deliver(records, topic, headers))
        delivery.add_done_callback(lambda done: self._resolved(done, size))
        # Not wait_for: a record that is on its way is not taken back, it is only no longer waited for.
        done, _ = await asyncio.wait([delivery], timeout=self._settings.request_timeout_s)
        if not done:
            self._overdue += 1
            delivery.add_done_callback(self._no_longer_overdue)
            raise Unavailable(SERVICE, f"no acknowledgement within {self._settings.request_timeout_s:g} s")
        try:
            return delivery.result()
        finally:
            # An error knows this frame: while the frame knows it too, only the garbage collector frees both, and the record.
            del delivery, done

    async def is_answering(self, topic: str, partitions: int, within_s: float = 2.0) -> bool:
        """Whether the broker answers now, nothing sent is overdue, and `topic` has this many partitions."""
        try:
            async with asyncio.timeout(within_s):
                client = await self._connected()
                found = await self.partitions(topic)
                answers: bool = await client.client.force_metadata_update()
        except (Unavailable, KafkaError, TimeoutError):
            return False
        return answers and len(found) == partitions and not self._overdue

    async def partitions(self, topic: str) -> set[int]:
        """The partitions that the broker knows of a topic. Raises Unavailable."""
        client = await self._connected()
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                return set(await client.partitions_for(topic))
        except (KafkaError, TimeoutError, OSError) as error:
            raise Unavailable(SERVICE, f"{topic}: {error!r}") from error

    async def _deliver(self, records: Sequence[_Outgoing], topic: str, headers: Headers) -> list[RecordMetadata]:
        client = await self._connected()
        sent: list[asyncio.Future[RecordMetadata]] = []
        try:
            try:
                for partition, key, value in records:
                    future = await client.send(topic, value, key, partition, headers=list(headers))
                    sent.append(future)
            finally:
                # All are waited for, whatever became of one: nothing may arrive after the answer that says it did not.
                if sent and len(records) > 1:
                    await asyncio.wait(sent)
                    for one in sent:
                        one.exception()  # seen: one of them is raised
            return [await one for one in sent]
        except (KafkaError, OSError) as error:
            # A failed batch leaves a hole in the idempotent sequence that the broker refuses ever after: start anew.
            self._retire(client)
            # Its traceback knows this frame, which knows the future that has the error: no garbage is to be made of them.
            raise Unavailable(SERVICE, f"the log refused a record: {error!r}") from error.with_traceback(None)

    def _resolved(self, delivery: "asyncio.Task[list[RecordMetadata]]", size: int) -> None:
        self._inflight_bytes -= size
        if not delivery.cancelled():
            delivery.exception()  # seen: who waited was told, who no longer waits must not be warned about

    def _no_longer_overdue(self, _: "asyncio.Task[list[RecordMetadata]]") -> None:
        self._overdue -= 1

    async def _connected(self) -> AIOKafkaProducer:
        if self._client is not None:
            return self._client
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(self._opened)
        return await asyncio.shield(self._opening)

    def _opened(self, opening: "asyncio.Task[AIOKafkaProducer]") -> None:
        self._opening = None
        if not opening.cancelled():
            opening.exception()

    async def _open(self) -> AIOKafkaProducer:
        client = AIOKafkaProducer(
            bootstrap_servers=self._settings.bootstrap,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            compression_type=None,
            max_batch_size=_BATCH_MAX_BYTES,
            max_request_size=_REQUEST_MAX_BYTES,
            request_timeout_ms=int(self._settings.request_timeout_s * _MS),
            retry_backoff_ms=100,
        )
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                await client.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await _ended(client.stop(), self._settings.request_timeout_s)
            raise Unavailable(SERVICE, f"{self._settings.bootstrap} does not answer: {error!r}") from error
        self._client = client
        return client

    def _retire(self, client: AIOKafkaProducer) -> None:
        if self._client is not client:
            return
        self._client = None
        task = asyncio.create_task(self._close(client))
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)

    async def _close(self, client: AIOKafkaProducer) -> None:
        if not await _ended(client.stop(), self._settings.request_timeout_s):
            _log.warning("closed a producer with records that were not acknowledged")


class TopicView:
    """Reads all partitions of one topic from the beginning, and goes on: each record is given to `apply`, in order.

    For topics that are a table (catalog.changed, entitlements.state): no consumer group, nothing is committed. While
    the broker is away the view stays as it is. A record may come twice, after a broken connection was replaced: `apply`
    must keep the greater version. An error of `apply` is a bug and ends the reading; `is_ready` is then False.
    """

    def __init__(self, settings: KafkaSettings, topic: str, apply: Callable[[Record], None]) -> None:
        self._settings = settings
        self._topic = topic
        self._apply = apply
        self._caught_up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether everything was read that the topic held when the reading began, and the reading goes on."""
        return self._caught_up.is_set() and self._task is not None and not self._task.done()

    async def start(self) -> None:
        """Begins to read in the background; returns at once."""
        self._task = asyncio.create_task(self._run(), name=f"view of {self._topic}")
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def caught_up(self) -> None:
        """Returns once `is_ready` has become true for the first time."""
        await self._caught_up.wait()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the view of a topic has stopped", topic=self._topic, exc_info=error)

    async def _run(self) -> None:
        wait_s = _FIRST_RETRY_S
        while True:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._settings.bootstrap,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                request_timeout_ms=int(self._settings.request_timeout_s * _MS),
                max_partition_fetch_bytes=_FETCH_BYTES,
                fetch_max_wait_ms=_POLL_MS,
            )
            try:
                await consumer.start()
                wait_s = _FIRST_RETRY_S
                await self._read(consumer)
            except (KafkaError, OSError) as error:
                _log.warning("cannot read a topic, trying again", topic=self._topic, error=repr(error))
            finally:
                await _ended(consumer.stop(), self._settings.request_timeout_s)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, self._settings.retry_wait_max_s)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        found = consumer.partitions_for_topic(self._topic) or await self._partitions(consumer)
        partitions = [TopicPartition(self._topic, number) for number in sorted(found)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        while True:
            fetched: dict[TopicPartition, list[Any]] = await consumer.getmany(timeout_ms=_POLL_MS)
            for records in fetched.values():
                for record in records:
                    self._apply(_record(record))
            if not self._caught_up.is_set():
                for partition in [one for one, end in ends.items() if await consumer.position(one) >= end]:
                    del ends[partition]
                if not ends:
                    self._caught_up.set()

    async def _partitions(self, consumer: AIOKafkaConsumer) -> set[int]:
        """A consumer that follows nothing yet has no metadata of the topic: ask for it."""
        await consumer._client._wait_on_metadata(self._topic)  # noqa: SLF001 - as the producer's partitions_for does
        return set(consumer.partitions_for_topic(self._topic) or ())


async def _ended(stop: Coroutine[Any, Any, None], within_s: float) -> bool:
    """Runs a client's own stop; whether it ended well and in time.

    In a task of its own: the clients may raise CancelledError from their tasks when the broker is away, which here would
    look as if we were cancelled.
    """
    task = asyncio.ensure_future(stop)
    await asyncio.wait([task], timeout=within_s)
    if not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=within_s)
        return False
    return not task.cancelled() and task.exception() is None


def _record(record: Any) -> Record:
    return Record(
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        key=record.key,
        value=record.value,
        headers=tuple(record.headers),
    )
