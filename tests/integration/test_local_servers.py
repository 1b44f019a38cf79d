"""Each server of the embedded stack answers its own client."""

import urllib.request

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from temporalio.client import Client


def test_kafka_acknowledges_a_record_as_soon_as_it_is_ready(kafka_bootstrap: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    admin.create_topics([NewTopic("first", 1)])["first"].result(10)
    producer = Producer({"bootstrap.servers": kafka_bootstrap, "acks": "all", "enable.idempotence": True})
    errors: list[object] = []
    producer.produce("first", b"x", on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(10) == 0
    assert errors == [None]


async def test_temporal_serves_the_default_namespace(temporal_address: str) -> None:
    client = await Client.connect(temporal_address)
    assert [workflow async for workflow in client.list_workflows()] == []


def test_clickhouse_answers_a_query(clickhouse_url: str) -> None:
    with urllib.request.urlopen(f"{clickhouse_url}/?query=SELECT%201", timeout=10) as answer:  # noqa: S310 - our own server
        assert answer.read() == b"1\n"
