"""The ends of a topic on a real broker: what a lag is counted from."""

from collections.abc import Mapping

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # re-exported implicitly

from domain.errors import Unavailable
from runtime.settings import KafkaSettings
from stores.kafka import Producer
from stores.log_ends import LogEnds
from tests.support.broker import TIMEOUT_S
from tests.support.waiting import eventually_async

TOPIC = "test.ends"


async def _are(ends: LogEnds, wanted: Mapping[int, int]) -> bool:
    return await ends.read() == wanted


async def test_ends_follow_what_is_written(kafka_bootstrap: str) -> None:
    settings = KafkaSettings(bootstrap=kafka_bootstrap)
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    for future in admin.create_topics([NewTopic(TOPIC, 2, 1)]).values():
        future.result(TIMEOUT_S)
    ends, producer = LogEnds(settings, TOPIC, 2), Producer(settings)
    assert await ends.read() == {0: 0, 1: 0}
    for _ in range(3):
        await producer.send(TOPIC, 1, value=b"[]")

    found: bool = await eventually_async(lambda: _are(ends, {0: 0, 1: 3}), within_s=5)
    assert found
    await producer.stop()
    await ends.close()


async def test_a_broker_that_is_away_is_unavailable() -> None:
    ends = LogEnds(KafkaSettings(bootstrap="127.0.0.1:1"), TOPIC, 2)
    with pytest.raises(Unavailable):
        await ends.read()
    await ends.close()
