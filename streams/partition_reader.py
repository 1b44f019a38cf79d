"""Reading one partition of any topic outside of the consumer group: to see what a former owner left there."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError

from domain.errors import Unavailable
from runtime.settings import KafkaSettings

_POLL_MS = 500
_FETCH_MAX_BYTES = 20 << 20


class PartitionReader:
    """Each call opens a connection of its own: it is asked at a take-over or in doubt, never in the loop."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    async def read(
        self, topic: str, partition: int, first: int = 0, last: int | None = None
    ) -> AsyncIterator[Sequence[Any]]:
        """Records (aiokafka's) at offsets first to last, both included, in order and a few at a time; `last=None` reads
        to the end that the log has now. What the log no longer has is left out. Raises Unavailable.
        """
        place = TopicPartition(topic, partition)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            request_timeout_ms=int(self._settings.request_timeout_s * 1000),
            max_partition_fetch_bytes=_FETCH_MAX_BYTES,
        )
        try:
            await consumer.start()
            consumer.assign([place])
            begins_at = (await consumer.beginning_offsets([place]))[place]
            end = (await consumer.end_offsets([place]))[place]
            if last is not None:
                end = min(end, last + 1)
            consumer.seek(place, max(first, begins_at))
            silent_ms = 0.0
            while await consumer.position(place) < end:
                found = await consumer.getmany(place, timeout_ms=_POLL_MS)
                silent_ms = 0.0 if found else silent_ms + _POLL_MS
                if silent_ms > self._settings.request_timeout_s * 1000:
                    raise KafkaTimeoutError(f"no record within {self._settings.request_timeout_s:g} s")
                for fetched in found.values():
                    yield [record for record in fetched if record.offset < end]
        except (KafkaError, OSError) as error:
            raise Unavailable("kafka", f"{topic} cannot be read: {error!r}") from error
        finally:
            with contextlib.suppress(KafkaError, OSError):
                await consumer.stop()
