"""Reading a range of a partition by position, outside of the consumer group: what a successor and a gap check need."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from domain.errors import Unavailable
from domain.records import LogRecord, read_record
from runtime.settings import KafkaSettings
from stores.kafka_records import read_any_header

_POLL_MS = 500
_FETCH_MAX_BYTES = 20 << 20

read_any_header()


def to_record(message: Any, timestamp_ms: int) -> LogRecord:
    """A record of aiokafka or Faust, whose timestamps differ in their unit."""
    return read_record(message.offset, timestamp_ms, message.value, message.headers or ())


class LogReader:
    """Each call opens a connection of its own: it is asked at a take-over or in doubt, never in the loop."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings = settings
        self._topic = topic

    async def read(self, partition: int, first: int, last: int) -> list[LogRecord]:
        """The records at offsets first to last, both included; fewer where the log has no more. Raises Unavailable."""
        place = TopicPartition(self._topic, partition)
        records: list[LogRecord] = []
        async with self._consumer() as consumer:
            consumer.assign([place])
            consumer.seek(place, first)
            end = (await consumer.end_offsets([place]))[place]
            end = min(last + 1, end)
            while await consumer.position(place) < end:
                fetched = await self._fetched(consumer, place, end)
                records += [to_record(message, message.timestamp) for message in fetched if message.offset <= last]
        return records

    async def next_at_or_after(self, partition: int, offset: int) -> int | None:
        """The first offset at or after `offset` that the log has; None at its end.

        protocol 17: what retention has removed is no gap that may be skipped: then the beginning lies above `offset`,
        and the caller must stop. Raises Unavailable.
        """
        place = TopicPartition(self._topic, partition)
        async with self._consumer() as consumer:
            consumer.assign([place])
            beginning = (await consumer.beginning_offsets([place]))[place]
            if beginning > offset:
                raise RetentionPassedError(
                    f"partition {partition}: the log begins at {beginning}, the ledger goes on at {offset}:"
                    " records were removed before they were counted"
                )
            consumer.seek(place, offset)
            end = (await consumer.end_offsets([place]))[place]
            for message in await self._fetched(consumer, place, end, max_records=1):
                return int(message.offset)
        return None

    async def since(self, partition: int, timestamp_ms: int) -> AsyncIterator[bytes]:
        """The values of the records appended at or after an instant, up to the end that the log has now.

        Raises Unavailable. Close the generator when leaving early.
        """
        place = TopicPartition(self._topic, partition)
        async with self._consumer() as consumer:
            consumer.assign([place])
            found = (await consumer.offsets_for_times({place: timestamp_ms}))[place]
            if found is None:
                return
            consumer.seek(place, found.offset)
            end = (await consumer.end_offsets([place]))[place]
            while await consumer.position(place) < end:
                for message in await self._fetched(consumer, place, end):
                    if message.value is not None:
                        yield message.value

    async def _fetched(
        self, consumer: AIOKafkaConsumer, place: TopicPartition, end: int, max_records: int | None = None
    ) -> Sequence[Any]:
        """The next records below `end`; none where only markers are left. A log that says nothing any more is away."""
        async with asyncio.timeout(self._settings.request_timeout_s):
            while await consumer.position(place) < end:
                fetched = await consumer.getmany(place, timeout_ms=_POLL_MS, max_records=max_records)
                if records := fetched.get(place):
                    return list(records)
        return ()

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="none",
            request_timeout_ms=int(self._settings.request_timeout_s * 1000),
            max_partition_fetch_bytes=_FETCH_MAX_BYTES,
        )
        try:
            await consumer.start()
            yield consumer
        except (KafkaError, OSError) as error:
            raise Unavailable("kafka", f"{self._topic} cannot be read: {error!r}") from error
        finally:
            with contextlib.suppress(KafkaError, OSError):
                await consumer.stop()


class RetentionPassedError(Exception):
    """Records that no ledger row covers are gone from the log: fatal until a person has decided."""
