"""ClickHouse that hangs counts as away in bounded time, and what it does with the abandoned request changes nothing."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from random import Random
from urllib.parse import urlsplit

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from domain.errors import Unavailable
from runtime.clock import SystemClock
from runtime.settings import ClickhouseSettings, Secret
from stores.clickhouse.blocks import insert_block
from stores.clickhouse.client import ClickhouseClient, translated
from tests.chaos.proxy import Link
from tests.support.clickhouse import migrated_database
from tests.support.usage_events import encoded, random_events
from tests.support.waiting import eventually_async

NAME = "outages"
EVENTS = random_events(Random(1), 40, datetime(2026, 6, 1, tzinfo=UTC), timedelta(days=4), ("acme",), per_block=40)
TIMEOUT_S = 1.0
GIVEN_UP_WITHIN_S = 15.0
SEEN_WITHIN_S = 20.0


@pytest.fixture
async def direct(clickhouse_url: str) -> AsyncIterator[ClickhouseClient]:
    async with migrated_database(clickhouse_url, NAME) as client:
        yield client


@pytest.fixture
async def link(clickhouse_url: str) -> AsyncIterator[Link]:
    parts = urlsplit(clickhouse_url)
    assert parts.hostname
    assert parts.port
    between = await Link("clickhouse").open()
    between.aim(parts.hostname, parts.port)
    yield between
    await between.close()


@pytest.fixture
async def client(clickhouse_url: str, link: Link) -> AsyncIterator[ClickhouseClient]:
    url = clickhouse_url.replace(urlsplit(clickhouse_url).netloc.rpartition("@")[2], link.address)
    made = ClickhouseClient(
        ClickhouseSettings(url=Secret(url), database=NAME, query_timeout_s=TIMEOUT_S, connect_timeout_s=TIMEOUT_S)
    )
    assert await made.ping()
    yield made
    await made.close()


async def insert(client: ClickhouseClient, deadline_s: float) -> None:
    batch, constants = encoded(EVENTS)
    before = SystemClock().now() + timedelta(seconds=deadline_s)
    await insert_block(client, batch, token=constants.token, cut=1, insert_before=before, deadline_s=deadline_s)


async def counted(client: ClickhouseClient) -> int:
    return int((await client.rows(f"SELECT count() FROM {NAME}.events"))[0][0])


async def test_a_server_that_hangs_is_given_up_by_all_who_wait_and_used_again(
    client: ClickhouseClient, direct: ClickhouseClient, link: Link
) -> None:
    link.hold()
    async with asyncio.timeout(GIVEN_UP_WITHIN_S):
        asked = await asyncio.gather(*(client.rows("SELECT 1") for _ in range(6)), return_exceptions=True)
    assert [type(one) for one in asked] == [Unavailable] * 6
    link.mend()
    assert await client.ping()


async def test_an_insert_is_given_up_at_its_deadline_and_repeated_counts_once(
    client: ClickhouseClient, direct: ClickhouseClient, link: Link
) -> None:
    link.hold()
    async with asyncio.timeout(GIVEN_UP_WITHIN_S):
        with pytest.raises(Unavailable):
            await insert(client, TIMEOUT_S)
    link.mend()  # what was abandoned is delivered now: late, and refused for it
    await insert(client, 30)
    await eventually_async(lambda: counted(direct), SEEN_WITHIN_S)
    await insert(client, 30)
    assert await counted(direct) == len(EVENTS)


@pytest.mark.parametrize("code", [243, 241, 252, 159, 209])
def test_a_server_that_lacks_what_it_needs_counts_as_away(code: int) -> None:
    """A full disk, no memory, too many parts, too slow: all may pass."""
    error = DatabaseError(f"Code: {code}.")
    error.code = code
    with pytest.raises(Unavailable), translated():
        raise error
