"""The balances as every reader of `entitlements.state` gets them, a partition at a time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from domain.errors import Unavailable
from runtime.settings import KafkaSettings
from schemas.contracts import EntitlementsState
from schemas.topics import ENTITLEMENTS_STATE
from stores.kafka import SERVICE

_MS = 1000
_POLL_MS = 500
_FETCH_MAX_BYTES = 20 << 20
_FRESHNESS = b"@as_of/"

_decoder = msgspec.json.Decoder(EntitlementsState)


class PartitionStates:
    """The states of one partition: the newest of each customer, protocol 9: the greatest version, not the last record."""

    def __init__(self, consumer: AIOKafkaConsumer, place: TopicPartition) -> None:
        self._consumer = consumer
        self._place = place
        self._states: dict[bytes, EntitlementsState] = {}

    async def read_on(self) -> Mapping[bytes, EntitlementsState]:
        """All that the topic holds by now, by customer. Raises Unavailable."""
        try:
            end = (await self._consumer.end_offsets([self._place]))[self._place]
            while await self._consumer.position(self._place) < end:
                for fetched in (await self._consumer.getmany(self._place, timeout_ms=_POLL_MS)).values():
                    for record in fetched:
                        self._apply(record.key or b"", record.value)
        except (KafkaError, OSError) as error:
            raise Unavailable(SERVICE, f"{ENTITLEMENTS_STATE} cannot be read: {error!r}") from error
        return self._states

    def _apply(self, key: bytes, value: bytes | None) -> None:
        if value is None or key.startswith(_FRESHNESS):
            return
        state = _decoder.decode(value)
        known = self._states.get(key)
        if known is None or state.version >= known.version:
            self._states[key] = state


@asynccontextmanager
async def partition_states(settings: KafkaSettings, partition: int) -> AsyncIterator[PartitionStates]:
    """From the beginning of one partition; in no consumer group, and nothing is committed. Raises Unavailable."""
    place = TopicPartition(ENTITLEMENTS_STATE, partition)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=int(settings.request_timeout_s * _MS),
        max_partition_fetch_bytes=_FETCH_MAX_BYTES,
    )
    try:
        async with asyncio.timeout(settings.request_timeout_s):
            await consumer.start()
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
        yield PartitionStates(consumer, place)
    except (KafkaError, OSError, TimeoutError) as error:
        raise Unavailable(SERVICE, f"{ENTITLEMENTS_STATE} cannot be read: {error!r}") from error
    finally:
        with contextlib.suppress(KafkaError, OSError):
            await consumer.stop()
