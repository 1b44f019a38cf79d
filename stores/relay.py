"""The outbox relay: rows of PostgreSQL's outbox become Kafka records, in order, at least once.

One relay in the whole system works at a time, under an advisory lock that goes with its connection; the others wait.
A row is deleted after its acknowledgement, on the very connection that holds the lock. After a failure it starts again
at the oldest row: records may come twice, and readers keep the greatest version (protocol 9).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from runtime.settings import KafkaSettings, PostgresSettings
from stores.postgres.engine import BoundedConnection, connect_args, conninfo
from stores.postgres.outbox import CHANNEL

BATCH = 500
FIRST_DELAY_S = 0.1
# Below what the broker takes of these topics (schemas/topics.py): a record that is too large is refused here, before any
# later one was handed over. Refused by the broker, a later one could overtake it.
REQUEST_MAX_BYTES = (4 << 20) - (64 << 10)
# Any number that nobody else uses.
RELAY_LOCK = 4_805_310_733

_MS = 1000
_log = structlog.get_logger(__name__)


class Relay:
    """`run()` works until it is cancelled; it outlives the loss of either server."""

    def __init__(self, postgres: PostgresSettings, kafka: KafkaSettings) -> None:
        self._postgres = postgres
        self._kafka = kafka
        self._delay_s = FIRST_DELAY_S

    async def run(self) -> None:
        """Send what is in the outbox, then what comes. Idempotency key of a record: the reader's (version, key)."""
        while True:
            try:
                await self._serve()
            except (psycopg.OperationalError, psycopg.InterfaceError, KafkaError, OSError, TimeoutError) as error:
                _log.warning("outbox_relay_waits", error=type(error).__name__, reason=str(error), delay_s=self._delay_s)
                await asyncio.sleep(self._delay_s)
                self._delay_s = min(self._delay_s * 2, self._kafka.retry_wait_max_s)

    async def _serve(self) -> None:
        """One tenure: until a connection is lost."""
        async with self._connection() as connection:
            await self._hold_lock(connection)
            await connection.execute(f"LISTEN {CHANNEL}")
            async with self._producer() as producer:
                _log.info("outbox_relay_started")
                while True:
                    while await self._send_batch(connection, producer):
                        pass
                    self._delay_s = FIRST_DELAY_S
                    async for _ in connection.notifies(timeout=self._postgres.outbox_poll_s, stop_after=1):
                        pass

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[BoundedConnection]:
        arguments = connect_args(self._postgres)
        connection = await BoundedConnection.opened(
            self._postgres, conninfo(self._postgres), autocommit=True, **arguments
        )
        async with connection:
            yield connection

    async def _hold_lock(self, connection: BoundedConnection) -> None:
        while True:
            cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", [RELAY_LOCK])
            if await cursor.fetchone() == (True,):
                return
            self._delay_s = FIRST_DELAY_S
            await asyncio.sleep(self._postgres.outbox_poll_s)

    @contextlib.asynccontextmanager
    async def _producer(self) -> AsyncIterator[AIOKafkaProducer]:
        timeout_s = self._kafka.request_timeout_s
        producer = AIOKafkaProducer(
            bootstrap_servers=self._kafka.bootstrap,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_request_size=REQUEST_MAX_BYTES,
            request_timeout_ms=int(timeout_s * _MS),
        )
        try:
            async with asyncio.timeout(timeout_s):
                await producer.start()
            yield producer
        finally:
            # What is not acknowledged is still in the outbox: no reason to wait long for a broker that is away.
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await producer.stop()

    async def _send_batch(self, connection: BoundedConnection, producer: AIOKafkaProducer) -> int:
        """Send the oldest rows, wait for all acknowledgements, then delete them; how many there were."""
        cursor = await connection.execute(
            "SELECT id, topic, partition, key, value FROM outbox ORDER BY id LIMIT %s", [BATCH], binary=True
        )
        rows = await cursor.fetchall()
        if not rows:
            return 0
        acknowledgements: list[asyncio.Future[Any]] = []
        try:
            async with asyncio.timeout(self._kafka.request_timeout_s):
                for _, topic, partition, key, value in rows:
                    # Handed over one after the other: the order in a partition is the order of the rows.
                    acknowledgements.append(await producer.send(topic, value, key, partition))
                await asyncio.gather(*acknowledgements)
        finally:
            for one in acknowledgements:
                one.cancel()
        await connection.execute("DELETE FROM outbox WHERE id = ANY(%s)", [[row[0] for row in rows]])
        return len(rows)
