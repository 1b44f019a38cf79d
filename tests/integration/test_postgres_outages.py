"""PostgreSQL that hangs, makes wait, or has a full disk counts as away, in bounded time; and is used again afterwards."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.errors import Unavailable
from runtime.settings import PostgresSettings, Secret
from stores.postgres.engine import answers, autocommit, create_engine, transaction
from tests.chaos.proxy import Link
from tests.support.database import database

# Together the longest that a statement may take when nobody answers; and time enough for the machine to be busy.
STATEMENT_TIMEOUT_S = 0.5
CONNECT_TIMEOUT_S = 1.0
LOCK_TIMEOUT_S = 0.2
GIVEN_UP_WITHIN_S = 15.0


@pytest.fixture(scope="module")
def direct(postgres_url: str) -> Iterator[PostgresSettings]:
    with database(postgres_url, "outages", migrated=False) as settings:
        yield settings


@pytest.fixture
async def link(direct: PostgresSettings) -> AsyncIterator[Link]:
    parts = urlsplit(direct.url.reveal())
    assert parts.hostname
    assert parts.port
    between = await Link("postgres").open()
    between.aim(parts.hostname, parts.port)
    yield between
    await between.close()


@pytest.fixture
async def engine(direct: PostgresSettings, link: Link) -> AsyncIterator[AsyncEngine]:
    url = direct.url.reveal()
    parts = urlsplit(url)
    made = create_engine(
        replace(
            direct,
            url=Secret(url.replace(f"{parts.hostname}:{parts.port}", link.address)),
            pool_size=2,
            connect_timeout_s=CONNECT_TIMEOUT_S,
            statement_timeout_s=STATEMENT_TIMEOUT_S,
            lock_timeout_s=LOCK_TIMEOUT_S,
        )
    )
    yield made
    await made.dispose()


async def test_a_server_that_hangs_is_given_up_by_all_who_wait_and_used_again_when_it_answers(
    engine: AsyncEngine, link: Link
) -> None:
    assert await answers(engine)
    link.hold()
    async with asyncio.timeout(GIVEN_UP_WITHIN_S):
        # More than the pool has connections: those that get none are given up too.
        assert await asyncio.gather(*(answers(engine) for _ in range(6))) == [False] * 6
    link.mend()
    assert await asyncio.gather(*(answers(engine) for _ in range(6))) == [True] * 6


async def test_a_commit_that_is_not_answered_is_unavailable(engine: AsyncEngine, link: Link) -> None:
    async def commit_unanswered() -> None:
        async with asyncio.timeout(GIVEN_UP_WITHIN_S), transaction(engine) as connection:
            await connection.execute(text("SELECT 1"))
            link.hold()

    with pytest.raises(Unavailable):
        await commit_unanswered()
    link.mend()
    assert await answers(engine)


async def test_a_lock_that_somebody_keeps_is_not_waited_for_without_end(engine: AsyncEngine) -> None:
    async with transaction(engine) as holder:
        await holder.execute(text("SELECT pg_advisory_xact_lock(1)"))
        with pytest.raises(Unavailable, match="lock timeout"):
            async with transaction(engine) as waiter:
                await waiter.execute(text("SELECT pg_advisory_xact_lock(1)"))
    async with transaction(engine) as waiter:
        await waiter.execute(text("SELECT pg_advisory_xact_lock(1)"))


@pytest.mark.parametrize("condition", ["disk_full", "out_of_memory", "too_many_connections", "admin_shutdown"])
async def test_a_server_that_lacks_what_it_needs_counts_as_away(engine: AsyncEngine, condition: str) -> None:
    with pytest.raises(Unavailable):
        async with autocommit(engine) as connection:
            await connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{condition}'; END $$"))
