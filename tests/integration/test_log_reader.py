"""What can be read of a log, whoever wrote it: a contract of ours with the pinned aiokafka."""

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # re-exported implicitly

from runtime.settings import KafkaSettings
from streams.log_reader import LogReader
from tests.support.broker import TIMEOUT_S
from tests.support.pipeline import produce, produce_with_header_name

TOPIC = "test.any.headers"


async def test_a_header_name_that_is_no_utf8_hides_no_record(kafka_bootstrap: str) -> None:
    """aiokafka raises on it while it unpacks, and whoever reads the partition would never get past it."""
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    for future in admin.create_topics([NewTopic(TOPIC, 1, 1)]).values():
        future.result(TIMEOUT_S)
    named = [("tenant", b"t"), ("environment", b"live"), ("version", b"7")]
    await produce(kafka_bootstrap, TOPIC, [(0, b"before", named)])
    await produce_with_header_name(kafka_bootstrap, TOPIC, 0, b"odd", b"vers\xffion")
    await produce(kafka_bootstrap, TOPIC, [(0, b"after", named)])

    reader = LogReader(KafkaSettings(bootstrap=kafka_bootstrap), TOPIC)
    records = await reader.read(0, 0, 2)
    assert [(record.offset, record.value, record.version) for record in records] == [
        (0, b"before", 7),
        (1, b"odd", 0),
        (2, b"after", 7),
    ]
    assert [record.value for record in await reader.read(0, 1, 1)] == [b"odd"]
