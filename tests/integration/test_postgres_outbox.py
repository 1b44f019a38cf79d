"""Catalog versions and the outbox on a real PostgreSQL: what is written together is kept together."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import msgspec
import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.settings import PostgresSettings
from schemas.catalog import CatalogChange, CatalogVersion
from schemas.topics import CATALOG_CHANGED
from stores.postgres.catalog_log import begin_version, head_version, record, versions_after
from stores.postgres.engine import create_engine, transaction
from stores.postgres.outbox import CHANNEL, backlog, enqueue
from tests.support.database import database


@pytest.fixture(scope="module")
def settings(postgres_url: str) -> Iterator[PostgresSettings]:
    with database(postgres_url, "test_outbox") as found:
        yield found


@pytest.fixture
async def engine(settings: PostgresSettings) -> AsyncIterator[AsyncEngine]:
    with psycopg.connect(settings.url.reveal()) as connection:
        connection.execute("TRUNCATE catalog_changes, outbox")
        connection.execute("UPDATE catalog_head SET version = 0")
    engine = create_engine(settings)
    yield engine
    await engine.dispose()


def _change(key: str) -> CatalogChange:
    return CatalogChange(kind="meter", tenant="acme", environment="live", key=key, body={"id": key, "value": None})


def _published(settings: PostgresSettings) -> list[CatalogVersion]:
    with psycopg.connect(settings.url.reveal()) as connection:
        rows = connection.execute("SELECT topic, partition, key, value FROM outbox ORDER BY id").fetchall()
    found = [msgspec.json.decode(value, type=CatalogVersion) for _, _, _, value in rows]
    assert [row[:3] for row in rows] == [(CATALOG_CHANGED, 0, str(one.version).encode()) for one in found]
    return found


async def test_a_version_is_kept_and_published_with_its_changes(
    engine: AsyncEngine, settings: PostgresSettings
) -> None:
    archived = CatalogChange(kind="customer", tenant="acme", environment="live", key="cus_1", body=None)
    async with transaction(engine) as connection:
        await record(connection, await begin_version(connection), [_change("met_1"), archived])
    async with transaction(engine) as connection:
        await record(connection, await begin_version(connection), [])
    expected = [
        CatalogVersion(version=1, changes=[_change("met_1"), archived]),
        CatalogVersion(version=2, changes=[]),
    ]
    assert _published(settings) == expected
    assert await versions_after(engine, 0) == expected
    assert await versions_after(engine, 1) == expected[1:]
    assert await head_version(engine) == 2


async def test_concurrent_changes_publish_every_version_once_and_in_order(
    engine: AsyncEngine, settings: PostgresSettings
) -> None:
    async def change(number: int) -> None:
        async with transaction(engine) as connection:
            await record(connection, await begin_version(connection), [_change(f"met_{number}")])

    await asyncio.gather(*(change(number) for number in range(30)))
    assert [one.version for one in _published(settings)] == list(range(1, 31))


async def test_what_is_rolled_back_takes_no_version_and_sends_nothing(
    engine: AsyncEngine, settings: PostgresSettings
) -> None:
    async def fails() -> None:
        async with transaction(engine) as connection:
            await record(connection, await begin_version(connection), [_change("met_1")])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    assert _published(settings) == []
    assert await head_version(engine) == 0
    assert (await backlog(engine)).records == 0


async def test_a_commit_wakes_who_listens(engine: AsyncEngine, settings: PostgresSettings) -> None:
    async with await psycopg.AsyncConnection.connect(settings.url.reveal(), autocommit=True) as listener:
        await listener.execute(f"LISTEN {CHANNEL}")
        async with transaction(engine) as connection:
            await enqueue(connection, "some.topic", 3, b"key", b"value")
            await enqueue(connection, "some.topic", 3, b"key", b"value")
        woken = [one.channel async for one in listener.notifies(timeout=5, stop_after=1)]
    assert woken == [CHANNEL]
    found = await backlog(engine)
    assert found.records == 2
    assert found.oldest_at is not None
