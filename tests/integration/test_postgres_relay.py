"""The outbox relay between a real PostgreSQL and a real broker: in order, at least once, through the loss of either."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # its __init__ imports only
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from runtime.settings import KafkaSettings, PostgresSettings
from stores.postgres.engine import create_engine, transaction
from stores.postgres.outbox import backlog, enqueue
from stores.relay import RELAY_LOCK, Relay
from tests.support.database import database
from tests.support.waiting import eventually, eventually_async

WITHIN_S = 20


@pytest.fixture(scope="module")
def postgres(postgres_url: str) -> Iterator[PostgresSettings]:
    with database(postgres_url, "test_relay") as found:
        yield found


@pytest.fixture
def kafka(kafka_bootstrap: str) -> KafkaSettings:
    return KafkaSettings(bootstrap=kafka_bootstrap, request_timeout_s=5)


@pytest.fixture
def topic(kafka: KafkaSettings, request: pytest.FixtureRequest) -> str:
    """A topic of this test, with two partitions."""
    name = f"relay.{request.node.name}"[:200]
    _create(kafka, name)
    return name


@pytest.fixture
async def engine(postgres: PostgresSettings) -> AsyncIterator[AsyncEngine]:
    with psycopg.connect(postgres.url.reveal()) as connection:
        connection.execute("TRUNCATE outbox")
    engine = create_engine(postgres)
    yield engine
    await engine.dispose()


def _create(kafka: KafkaSettings, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for future in admin.create_topics([NewTopic(name, 2, 1)]).values():
        future.result(WITHIN_S)
    eventually(lambda: name in admin.list_topics(timeout=WITHIN_S).topics, within_s=WITHIN_S)


@contextlib.asynccontextmanager
async def _running(postgres: PostgresSettings, kafka: KafkaSettings) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(Relay(postgres, kafka).run())
    try:
        yield task
        assert task.cancelled() or not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _enqueue(engine: AsyncEngine, topic: str, numbers: range) -> None:
    for number in numbers:
        async with transaction(engine) as connection:
            await enqueue(connection, topic, number % 2, str(number).encode(), b"value")


def _is_empty(postgres: PostgresSettings) -> bool:
    with psycopg.connect(postgres.url.reveal()) as connection:
        return connection.execute("SELECT 1 FROM outbox LIMIT 1").fetchone() is None


async def _received(kafka: KafkaSettings, topic: str, partition: int) -> list[int]:
    """All keys of a partition, in order."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        place = TopicPartition(topic, partition)
        consumer.assign([place])
        end = (await consumer.end_offsets([place]))[place]
        found: list[int] = []
        while len(found) < end:
            fetched = await consumer.getmany(timeout_ms=500)
            found += [int(record.key) for records in fetched.values() for record in records]
        return found
    finally:
        await consumer.stop()


async def test_rows_leave_in_order_to_their_partition_and_are_gone_then(
    engine: AsyncEngine, postgres: PostgresSettings, kafka: KafkaSettings, topic: str
) -> None:
    await _enqueue(engine, topic, range(20))
    async with _running(postgres, kafka):
        await _enqueue(engine, topic, range(20, 40))
        await eventually_async(lambda: _is_empty(postgres), WITHIN_S)
    assert await _received(kafka, topic, 0) == list(range(0, 40, 2))
    assert await _received(kafka, topic, 1) == list(range(1, 40, 2))


async def test_of_two_relays_one_works_and_the_other_takes_over(
    engine: AsyncEngine, postgres: PostgresSettings, kafka: KafkaSettings, topic: str
) -> None:
    async with _running(postgres, kafka) as first, _running(postgres, kafka):
        await _enqueue(engine, topic, range(20))
        await eventually_async(lambda: _is_empty(postgres), WITHIN_S)
        assert len(_holders(postgres)) == 1
        first.cancel()
        await asyncio.wait([first])
        await _enqueue(engine, topic, range(20, 40))
        await eventually_async(lambda: _is_empty(postgres), WITHIN_S)
    assert await _received(kafka, topic, 0) == list(range(0, 40, 2))


def _holders(postgres: PostgresSettings) -> list[int]:
    with psycopg.connect(postgres.url.reveal()) as connection:
        query = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND (classid::bigint << 32) + objid::bigint = %s"
        return [pid for (pid,) in connection.execute(query, [RELAY_LOCK]).fetchall()]


async def test_a_lost_connection_to_postgresql_loses_no_row(
    engine: AsyncEngine, postgres: PostgresSettings, kafka: KafkaSettings, topic: str
) -> None:
    async with _running(postgres, kafka):
        await _enqueue(engine, topic, range(10))
        (pid,) = await eventually_async(lambda: _holders(postgres), WITHIN_S)
        with psycopg.connect(postgres.url.reveal(), autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s)", [pid])
        await _enqueue(engine, topic, range(10, 20))
        await eventually_async(lambda: _is_empty(postgres), WITHIN_S)
    _assert_at_least_once_in_order(await _received(kafka, topic, 0), list(range(0, 20, 2)))


async def test_while_the_broker_is_away_rows_wait_and_leave_when_it_is_back(
    engine: AsyncEngine, postgres: PostgresSettings, kafka: KafkaSettings, topic: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    away = KafkaSettings(bootstrap=f"127.0.0.1:{port}", request_timeout_s=2)
    await _enqueue(engine, topic, range(10))
    with capture_logs() as logs:
        async with _running(postgres, away):
            await eventually_async(lambda: len(logs) > 1, WITHIN_S)
    assert {entry["event"] for entry in logs} == {"outbox_relay_waits"}
    assert (await backlog(engine)).records == 10
    async with _running(postgres, away), _forwarding(port, kafka.bootstrap):
        await eventually_async(lambda: _is_empty(postgres), WITHIN_S)
    assert await _received(kafka, topic, 0) == list(range(0, 10, 2))


async def test_a_row_for_a_topic_that_is_not_there_waits_and_is_never_dropped(
    engine: AsyncEngine, postgres: PostgresSettings, kafka: KafkaSettings, topic: str
) -> None:
    late = f"{topic}.late"
    brisk = KafkaSettings(bootstrap=kafka.bootstrap, request_timeout_s=1)
    await _enqueue(engine, late, range(4))
    async with _running(postgres, brisk):
        await eventually_async(lambda: _holders(postgres), WITHIN_S)
        await _enqueue(engine, late, range(4, 8))
        assert (await backlog(engine)).records == 8
        _create(kafka, late)
        await eventually_async(lambda: _is_empty(postgres), WITHIN_S)
    _assert_at_least_once_in_order(await _received(kafka, late, 0), list(range(0, 8, 2)))


async def test_a_record_that_is_too_large_holds_back_all_later_ones(
    engine: AsyncEngine, postgres: PostgresSettings, kafka: KafkaSettings, topic: str
) -> None:
    await _enqueue(engine, topic, range(2))
    async with transaction(engine) as connection:
        await enqueue(connection, topic, 0, b"2", bytes(5 << 20))
    await _enqueue(engine, topic, range(3, 6))
    with capture_logs() as logs:
        async with _running(postgres, kafka):
            await eventually_async(lambda: len(logs) > 1, WITHIN_S)
    assert "MessageSizeTooLargeError" in {entry.get("error") for entry in logs}
    assert (await backlog(engine)).records == 6
    assert set(await _received(kafka, topic, 0)) <= {0}
    assert set(await _received(kafka, topic, 1)) <= {1}


def _assert_at_least_once_in_order(sent: list[int], expected: list[int]) -> None:
    """Repeats are allowed; the first copies come in order."""
    assert list(dict.fromkeys(sent)) == expected


@contextlib.asynccontextmanager
async def _forwarding(port: int, target: str) -> AsyncIterator[None]:
    """The broker comes back: what connects to `port` speaks with `target`."""
    host, _, target_port = target.partition(":")
    pumps: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection(host, int(target_port))
        pumps.update({asyncio.create_task(pump(reader, other_writer)), asyncio.create_task(pump(other_reader, writer))})

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        for one in pumps:
            one.cancel()
