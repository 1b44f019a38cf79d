"""Where a topic ends: what the lag of its readers is counted from."""

import asyncio
from collections.abc import Mapping

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from domain.errors import Unavailable
from runtime.settings import KafkaSettings
from stores.kafka import SERVICE

# For all that ask within this, the broker is asked once: a lag is read by people, once a second.
KEPT_S = 0.5
_MS = 1000

_log = structlog.get_logger(__name__)


class LogEnds:
    """End offsets of one topic of `partitions` partitions. Connects when first asked; reads no record."""

    def __init__(
        self, settings: KafkaSettings, topic: str, partitions: int, within_s: float = 2.0, *, kept_s: float = KEPT_S
    ) -> None:
        self._within_s = within_s
        self._kept_s = kept_s
        self._settings = settings
        self._partitions = [TopicPartition(topic, number) for number in range(partitions)]
        self._consumer: AIOKafkaConsumer | None = None
        self._asking = asyncio.Lock()
        self._kept: Mapping[int, int] = {}
        self._until = 0.0

    async def read(self) -> Mapping[int, int]:
        """Partition -> offset of the next record, at most `kept_s` old. Raises Unavailable within about `within_s`."""
        async with self._asking:
            now = asyncio.get_running_loop().time()
            if now >= self._until:
                self._kept = await self._asked()
                self._until = now + self._kept_s
            return self._kept

    async def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        # In a task of its own: the client may raise CancelledError when the broker is away, which would look like ours.
        stopping = asyncio.ensure_future(consumer.stop())
        await asyncio.wait([stopping], timeout=self._within_s)
        if not stopping.done():
            stopping.cancel()
        elif not stopping.cancelled() and (error := stopping.exception()) is not None:
            _log.warning("a client of the log did not close well", error=repr(error))

    async def _asked(self) -> Mapping[int, int]:
        try:
            async with asyncio.timeout(self._within_s):
                consumer = await self._connected()
                ends = await consumer.end_offsets(self._partitions)
        except (KafkaError, TimeoutError, OSError) as error:
            await self.close()
            raise Unavailable(SERVICE, f"the ends of the log cannot be asked for: {error!r}") from error
        return {partition.partition: end for partition, end in ends.items()}

    async def _connected(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            self._consumer = AIOKafkaConsumer(
                bootstrap_servers=self._settings.bootstrap,
                enable_auto_commit=False,
                request_timeout_ms=int(self._within_s * _MS),
            )
            await self._consumer.start()
        return self._consumer
