"""The one way to PostgreSQL: a pool, transactions whose driver errors are our errors, and the URL in its three forms."""

import functools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
import psycopg
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from domain.errors import Invalid, Unavailable
from runtime.settings import PostgresSettings

SERVICE = "postgres"
_DRIVER = "postgresql+psycopg"
_MS = 1000
UNTRANSLATABLE_CHARACTER = "22P05"
# How often psycopg looks whether it was interrupted.
_POLL_S = 0.1


def _url(settings: PostgresSettings) -> URL:
    url = make_url(settings.url.reveal())
    return url.set(drivername=_DRIVER)


def connect_args(settings: PostgresSettings) -> dict[str, Any]:
    """What every connection is opened with: UTC, bounded statements, and a dead peer noticed within seconds."""
    timeout_ms = int(settings.statement_timeout_s * _MS)
    server_side = {
        "timezone": "UTC",
        "statement_timeout": timeout_ms,
        "lock_timeout": int(settings.lock_timeout_s * _MS),
        "idle_in_transaction_session_timeout": timeout_ms,
    }
    return {
        "connect_timeout": max(1, round(settings.connect_timeout_s)),
        "application_name": "meterstream",
        "options": " ".join(f"-c {name}={value}" for name, value in server_side.items()),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": timeout_ms,
    }


class BoundedConnection(psycopg.AsyncConnection[Any]):
    """A connection on which no statement waits for ever: the server's own time-outs do not help when it is the server, or
    the network to it, that hangs.
    """

    answer_within_s: float | None = None

    @classmethod
    async def opened(cls, settings: PostgresSettings, conninfo: str = "", **arguments: Any) -> "BoundedConnection":
        """Raises psycopg.OperationalError after `connect_timeout_s`."""
        connection = await cls.connect(conninfo, **arguments)
        # The server ends a statement at its time-out and says so; only then is it time to give it up.
        connection.answer_within_s = settings.statement_timeout_s + settings.connect_timeout_s
        return connection

    async def wait(self, gen: Any, interval: float = _POLL_S, timeout: float | None = None) -> Any:
        """As psycopg's; without a `timeout` of the caller it is ours, and a connection that passes it is closed."""
        if timeout is not None or self.answer_within_s is None:
            return await super().wait(gen, interval, timeout)
        try:
            return await super().wait(gen, interval, self.answer_within_s)
        except psycopg.errors._WaitTimeout as error:  # noqa: SLF001 - it has no public name
            self.pgconn.finish()  # whatever comes on it now is the answer to another question
            raise psycopg.OperationalError(f"no answer within {self.answer_within_s:g} s") from error


def conninfo(settings: PostgresSettings) -> str:
    """The URL for psycopg itself."""
    return _url(settings).set(drivername="postgresql").render_as_string(hide_password=False)


def sync_url(settings: PostgresSettings) -> URL:
    """The URL for SQLAlchemy's synchronous engine (migrations only)."""
    return _url(settings)


def _encode_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def create_engine(settings: PostgresSettings) -> AsyncEngine:
    """A pool of at most `pool_size` connections; belongs to the event loop that uses it first; `dispose()` closes it.

    No ping before each use: that would be a round trip a block. A restart of the server costs one `Unavailable`, upon
    which the pool forgets every connection it had.
    """
    return create_async_engine(
        _url(settings),
        pool_size=settings.pool_size,
        max_overflow=0,
        pool_timeout=settings.connect_timeout_s,
        connect_args={
            **connect_args(settings),
            "async_creator_fn": functools.partial(BoundedConnection.opened, settings),
        },
        json_serializer=_encode_json,
        json_deserializer=msgspec.json.decode,
    )


@contextmanager
def answering() -> Iterator[None]:
    """Turns 'the server does not answer, or not now' into `Unavailable("postgres")`, and text that it cannot hold into
    `Invalid("nul_character")`; broken rules stay what they are.

    psycopg's OperationalError holds lost connections, shutdowns, timeouts, deadlocks and full disks: all may pass.
    """
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeoutError) as error:
        raise Unavailable(SERVICE, _reason(error)) from error
    except DBAPIError as error:
        if error.connection_invalidated or isinstance(error.orig, psycopg.OperationalError | psycopg.InterfaceError):
            raise Unavailable(SERVICE, _reason(error.orig or error)) from error
        if isinstance(error.orig, psycopg.DataError) and _is_nul(error.orig):
            raise Invalid("nul_character", "text cannot hold the character NUL (U+0000): leave it out") from error
        raise


def _is_nul(error: psycopg.DataError) -> bool:
    """JSON and URLs can carry U+0000, PostgreSQL's text and jsonb cannot: the driver refuses the one, the server the other."""
    return error.sqlstate == UNTRANSLATABLE_CHARACTER or (error.sqlstate is None and "NUL" in str(error))


def _reason(error: BaseException) -> str:
    """The first line of the driver's words: they name host and cause, never the password."""
    lines = str(error).strip().splitlines()
    return f"PostgreSQL does not answer: {lines[0] if lines else type(error).__name__}"


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One transaction: committed at the end of the block, rolled back when it raises. Raises `Unavailable`.

    `Unavailable` from the commit itself means an unknown outcome: what is written must be safe to write again.
    """
    with answering():
        async with engine.begin() as connection:
            yield connection


@asynccontextmanager
async def autocommit(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection on which every statement is a transaction of its own: one round trip each. Raises `Unavailable`."""
    with answering():
        async with engine.connect() as connection:
            yield await connection.execution_options(isolation_level="AUTOCOMMIT")


async def answers(engine: AsyncEngine) -> bool:
    """Whether a trivial statement is answered now."""
    try:
        async with autocommit(engine) as connection:
            await connection.execute(text("SELECT 1"))
    except Unavailable:
        return False
    return True
