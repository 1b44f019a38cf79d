"""The clocks of the servers that give deadlines and enforce them (protocol 1)."""

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from stores.clickhouse.client import ClickhouseClient
from stores.postgres.engine import autocommit

_NOW = text("SELECT clock_timestamp() AS now")


async def postgres_now(engine: AsyncEngine) -> datetime:
    """The clock that deadlines are given by. Raises Unavailable."""
    async with autocommit(engine) as connection:
        found: datetime = (await connection.execute(_NOW)).scalar_one()
        return found


async def clickhouse_now(client: ClickhouseClient) -> datetime:
    """The clock that tables enforce deadlines by. Raises Unavailable."""
    [(found,)] = await client.rows("SELECT now64(6, 'UTC')")
    at: datetime = found
    return at
