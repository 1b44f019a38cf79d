"""The transactional outbox: a record leaves for Kafka if and only if the transaction that wrote it commits."""

from datetime import datetime

import msgspec
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from stores.postgres.engine import autocommit
from stores.postgres.tables import outbox

CHANNEL = "outbox"

# PostgreSQL sends it at the commit, once a transaction however often it is asked.
_NOTIFY = text(f"SELECT pg_notify('{CHANNEL}', '')")
_BACKLOG = text("SELECT count(*) AS records, min(created_at) AS oldest_at FROM outbox")


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """What waits to be sent; `oldest_at` is None when nothing does."""

    records: int
    oldest_at: datetime | None


async def enqueue(connection: AsyncConnection, topic: str, partition: int, key: bytes, value: bytes) -> None:
    """One record in the caller's transaction; the partition is always explicit.

    Delivered at least once, in the order of the rows: readers keep the greatest version or offset (protocol 9).
    Idempotency key: that of the caller's transaction.
    """
    row = {"topic": topic, "partition": partition, "key": key, "value": value}
    await connection.execute(insert(outbox).values(row))
    await connection.execute(_NOTIFY)


async def backlog(engine: AsyncEngine) -> Backlog:
    """How much waits, and since when. Raises `Unavailable`."""
    async with autocommit(engine) as connection:
        row = (await connection.execute(_BACKLOG)).one()
    return Backlog(records=row.records, oldest_at=row.oldest_at)
