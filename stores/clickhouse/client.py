"""The asynchronous ClickHouse client: one per process and event loop, safe for concurrent statements.

A server that does not answer is `Unavailable("clickhouse")`; a statement that it refuses is `ClickhouseError` with
ClickHouse's own code: nothing here hides one behind the other.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import aiohttp
import pyarrow as pa
from clickhouse_connect import get_async_client
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import ClickHouseError as DriverError
from clickhouse_connect.driver.exceptions import Error as DriverDatabaseError

from domain.errors import Unavailable
from runtime.settings import ClickhouseSettings

SERVICE = "clickhouse"
_TIMEOUT_EXCEEDED = 159
# What a server says while it is busy, starting or stopping, or cut off from its replicas: the same statement may work later.
_TRANSIENT = frozenset(
    {
        3,  # UNEXPECTED_END_OF_FILE
        _TIMEOUT_EXCEEDED,
        202,  # TOO_MANY_SIMULTANEOUS_QUERIES
        203,  # NO_FREE_CONNECTION
        209,  # SOCKET_TIMEOUT
        210,  # NETWORK_ERROR
        225,  # NO_ZOOKEEPER
        236,  # ABORTED
        241,  # MEMORY_LIMIT_EXCEEDED
        242,  # TABLE_IS_READ_ONLY
        243,  # NOT_ENOUGH_SPACE
        252,  # TOO_MANY_PARTS
        279,  # ALL_CONNECTION_TRIES_FAILED
        285,  # TOO_FEW_LIVE_REPLICAS
        319,  # UNKNOWN_STATUS_OF_INSERT
        394,  # QUERY_WAS_CANCELLED
        439,  # CANNOT_SCHEDULE_TASK
        999,  # KEEPER_EXCEPTION
    }
)

Parameters = Mapping[str, Any]
Row = Sequence[Any]


class ClickhouseError(Exception):
    """A statement that the server refused: `code` is ClickHouse's number (0: none given)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class TookTooLong(Unavailable):
    """The server gave a statement up at its time-out: one that reads less may pass."""


@contextmanager
def translated() -> Iterator[None]:
    """Driver and network errors as `Unavailable` or `ClickhouseError`."""
    try:
        yield
    except DriverDatabaseError as error:
        code = error.code
        if code == _TIMEOUT_EXCEEDED:
            raise TookTooLong(SERVICE, f"ClickHouse does not answer: {error}") from error
        if code is None or code in _TRANSIENT:
            raise Unavailable(SERVICE, f"ClickHouse does not answer: {error}") from error
        raise ClickhouseError(code, str(error)) from error
    except (DriverError, aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unavailable(SERVICE, f"ClickHouse does not answer: {error}") from error


class ClickhouseClient:
    """Statements with server-side parameters (`{name:Type}`); connects with the first one, so a process can start before
    ClickHouse does. `close()` ends it.
    """

    def __init__(self, settings: ClickhouseSettings) -> None:
        self.database = settings.database
        self.cluster = settings.cluster
        self.shards = settings.shards
        self._url = settings.url
        self._timeout_s = settings.query_timeout_s
        self._connect_timeout_s = settings.connect_timeout_s
        self._driver: AsyncClient | None = None
        self._connecting = asyncio.Lock()

    def reads(self, table: str) -> str:
        """The table to read all shards of `table` from."""
        return f"{self.database}.{table}_all" if self.cluster else f"{self.database}.{table}"

    async def rows(self, sql: str, parameters: Parameters | None = None, **settings: Any) -> list[Row]:
        """All rows of a SELECT, as Python values (Decimal, aware datetime, tuple, ...)."""
        driver = await self._connected()
        with translated():
            answer = await driver.query(sql, parameters=dict(parameters or {}), settings=self._read(settings))
            return list(answer.result_rows)

    async def arrow(self, sql: str, parameters: Parameters | None = None, **settings: Any) -> pa.Table:
        """The whole result as an Arrow table; for results that fit into memory."""
        driver = await self._connected()
        with translated():
            return await driver.query_arrow(
                sql, parameters=dict(parameters or {}), settings=self._read(settings), use_strings=True
            )

    async def arrow_batches(
        self, sql: str, parameters: Parameters | None = None, **settings: Any
    ) -> AsyncIterator[pa.RecordBatch]:
        """The result as a stream of record batches, bounded in memory. Close the generator when leaving early."""
        driver = await self._connected()
        with translated():
            stream = await driver.query_arrow_stream(
                sql, parameters=dict(parameters or {}), settings=self._read(settings), use_strings=True
            )
            async with stream:
                async for batch in stream:
                    yield batch

    async def command(self, sql: str, parameters: Parameters | None = None, **settings: Any) -> None:
        """A statement without a result (DDL, DELETE, ALTER)."""
        driver = await self._connected()
        with translated():
            await driver.command(sql, parameters=dict(parameters or {}), settings=settings)

    async def insert_batch(self, table: str, batch: pa.RecordBatch, **settings: Any) -> None:
        """One Arrow record batch as one INSERT with a known length: a body that is cut off is refused, never stored.

        Given up when the server does not say either that it took longer than `max_execution_time`: Unavailable, and the
        connection is closed. What the server then still does is bounded by that setting too.
        """
        driver = await self._connected()
        body = _ipc(batch)
        within_s = settings.get("max_execution_time", self._timeout_s) + self._connect_timeout_s
        with translated():
            async with asyncio.timeout(within_s):
                await driver.raw_insert(
                    f"{self.database}.{table}", batch.schema.names, body, settings=settings, fmt="ArrowStream"
                )

    async def ping(self) -> bool:
        """Whether a trivial statement is answered."""
        try:
            return bool(await self.rows("SELECT 1"))
        except Unavailable:
            return False

    async def close(self) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            await driver.close()

    def _read(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        read: dict[str, Any] = {"max_execution_time": self._timeout_s}
        if self.cluster:
            # protocol 20: a reader that needs a cut must not read a replica that lags behind it.
            read["select_sequential_consistency"] = 1
        return {**read, **settings}

    async def _connected(self) -> AsyncClient:
        if self._driver is not None:
            return self._driver
        async with self._connecting:
            if self._driver is None:
                with translated():
                    self._driver = await get_async_client(
                        dsn=self._url.reveal(),
                        # Statements run side by side: a session would serialise them.
                        autogenerate_session_id=False,
                        connect_timeout=self._connect_timeout_s,
                        send_receive_timeout=self._timeout_s + self._connect_timeout_s,
                        # Retries are the caller's decision; the driver still retries a kept-alive connection found closed.
                        query_retries=0,
                        compress=False,
                        tz_mode="aware",
                        # Parameters may be long (bounds of windows, references of many customers): no place for a URL.
                        form_encode_query_params=True,
                        client_name="meterstream",
                    )
            return self._driver


def _ipc(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    body: bytes = sink.getvalue().to_pybytes()
    return body
