"""Databases of their own on one real ClickHouse."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from runtime.clock import SystemClock
from runtime.settings import ClickhouseSettings, Secret, Settings
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.migrations import Migrations
from stores.clickhouse.tokens import token_windows


@asynccontextmanager
async def empty_database(url: str, name: str) -> AsyncIterator[ClickhouseClient]:
    """A client of the new database `name`, dropped at the end."""
    root = ClickhouseClient(ClickhouseSettings(url=Secret(url)))
    client = ClickhouseClient(ClickhouseSettings(url=Secret(url), database=name))
    await root.command(f"DROP DATABASE IF EXISTS {name}")
    await root.command(f"CREATE DATABASE {name}")
    try:
        yield client
    finally:
        await client.close()
        await root.command(f"DROP DATABASE IF EXISTS {name}")
        await root.close()


@asynccontextmanager
async def migrated_database(url: str, name: str) -> AsyncIterator[ClickhouseClient]:
    """As `empty_database`, with all tables."""
    async with empty_database(url, name) as client:
        await Migrations(client, token_windows(Settings()), SystemClock()).apply()
        yield client
