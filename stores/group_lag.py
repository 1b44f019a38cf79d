"""How far a consumer group is behind the end of a topic, as the broker knows it."""

import asyncio
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from domain.errors import Unavailable
from runtime.settings import KafkaSettings
from stores.kafka import SERVICE

_MS = 1000


async def group_lag(settings: KafkaSettings, topic: str, partitions: int, group: str) -> Mapping[int, int]:
    """Partition -> records that the group has not committed; all of them where it never has. Joins no group.

    Raises Unavailable within about `request_timeout_s`.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap,
        group_id=group,
        enable_auto_commit=False,
        request_timeout_ms=int(settings.request_timeout_s * _MS),
    )
    places = [TopicPartition(topic, number) for number in range(partitions)]
    try:
        async with asyncio.timeout(settings.request_timeout_s):
            await consumer.start()
            consumer.assign(places)  # by hand: no member of the group, so nothing is taken from a worker
            ends = await consumer.end_offsets(places)
            beginnings = await consumer.beginning_offsets(places)
            committed = {place: await consumer.committed(place) for place in places}
    except (KafkaError, TimeoutError, OSError) as error:
        raise Unavailable(SERVICE, f"the offsets of {group} cannot be asked for: {error!r}") from error
    finally:
        # In a task of its own: the client may raise CancelledError when the broker is away, which would look like ours.
        stopping = asyncio.ensure_future(consumer.stop())
        await asyncio.wait([stopping], timeout=settings.request_timeout_s)
    return {
        place.partition: max(0, ends[place] - (beginnings[place] if committed[place] is None else committed[place]))
        for place in places
    }
