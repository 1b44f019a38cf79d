"""Windows that lack something of `events` are made whole by one statement, exactly, and never twice (protocol 1)."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from runtime.clock import SystemClock
from stores.clickhouse.blocks import DeadlinePassed
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.window_completion import (
    WindowScope,
    add_missing,
    compare_windows,
    lacks_windows,
    touched_by,
)
from tests.support.clickhouse import migrated_database
from tests.support.usage_events import TOPIC, TestEvent, insert_events, random_events

CUT = 1
START = datetime(2025, 12, 30, tzinfo=UTC)
# Three blocks of one cut over the turn of a year: 0/0, 1/0 and 0/1 of partition and offset.
EVENTS = random_events(Random(3), 150, START, timedelta(days=4), ("acme", "bolt"))
ALL = WindowScope(start=START, end=START + timedelta(days=5), cut=CUT)
AGGREGATES = (
    "SELECT tenant, environment, meter, generation, customer, minute, dimensions, cut, sum(matches), sum(values),"
    " sum(total), min(lowest), max(highest), max(latest), uniqExactMerge(uniques) FROM {table}"
    " GROUP BY ALL ORDER BY ALL"
)


@pytest.fixture
async def client(clickhouse_url: str) -> AsyncIterator[ClickhouseClient]:
    async with migrated_database(clickhouse_url, "completion") as client:
        yield client


@pytest.fixture
async def whole(client: ClickhouseClient) -> list[Any]:
    """The windows as they should be: blocks 0/0, 1/0 and 0/1 are inserted in the usual way."""
    await insert_events(client, EVENTS, later(30))
    return await windows(client)


def later(seconds: float) -> datetime:
    return SystemClock().now() + timedelta(seconds=seconds)


async def windows(client: ClickhouseClient) -> list[Any]:
    return list(await client.rows(AGGREGATES.format(table=f"{client.database}.usage_windows")))


async def lose(client: ClickhouseClient, condition: str) -> None:
    await client.command(
        f"ALTER TABLE {client.database}.usage_windows DELETE WHERE {condition} SETTINGS mutations_sync=2"
    )


async def complete(client: ClickhouseClient, partition: int, offset: int, *, late_s: float = 0) -> None:
    scope = await touched_by(client, TOPIC, partition, offset, offset, CUT)
    assert scope is not None
    before = later(30 - late_s)
    await add_missing(client, scope, token=f"{partition}/{offset}/{before}", insert_before=before, within_s=30)


def block(partition: int, offset: int) -> list[TestEvent]:
    return [one for one in EVENTS if (one.partition, one.offset) == (partition, offset)]


@pytest.mark.parametrize("lost", ["1 = 1", "toYear(minute) = 2026", "cityHash64(meter, minute) % 2 = 0"])
async def test_missing_windows_are_added_exactly_and_a_second_time_nothing(
    client: ClickhouseClient, whole: list[Any], lost: str
) -> None:
    await lose(client, lost)
    found = await compare_windows(client, ALL, within_s=30)
    assert found.short > 0
    assert found.over == 0
    assert found.samples
    for partition, offset in ((0, 0), (1, 0), (0, 1)):
        await complete(client, partition, offset)
        await complete(client, partition, offset)
    assert await windows(client) == whole
    assert (await compare_windows(client, ALL, within_s=30)).is_none


async def test_windows_that_two_blocks_share_are_completed_by_whoever_comes_first(
    client: ClickhouseClient, whole: list[Any]
) -> None:
    """One block's windows are there, the other's are not: of each shared sum only the difference is added."""
    await client.command(f"TRUNCATE TABLE {client.database}.events")
    await client.command(f"TRUNCATE TABLE {client.database}.usage_windows")
    await insert_events(client, block(0, 0), later(30))
    await client.command(f"RENAME TABLE {client.database}.usage_windows TO {client.database}.kept")
    await client.command(f"CREATE TABLE {client.database}.usage_windows AS {client.database}.kept")
    await insert_events(client, EVENTS, later(30))
    await client.command(f"TRUNCATE TABLE {client.database}.usage_windows")
    await client.command(f"INSERT INTO {client.database}.usage_windows SELECT * FROM {client.database}.kept")
    for partition, offset in ((1, 0), (0, 1), (0, 0)):
        await complete(client, partition, offset)
    assert await windows(client) == whole


async def test_what_is_whole_is_left_alone_and_what_counts_twice_is_seen(
    client: ClickhouseClient, whole: list[Any]
) -> None:
    await complete(client, 0, 0)
    assert await windows(client) == whole
    await client.command(
        f"INSERT INTO {client.database}.usage_windows SELECT * FROM {client.database}.usage_windows WHERE meter = 'met_sum'"
    )
    found = await compare_windows(client, ALL, within_s=30)
    assert found.short == 0
    assert found.over == len([row for row in whole if row[2] == "met_sum"])


async def test_a_statement_after_its_deadline_adds_nothing(client: ClickhouseClient, whole: list[Any]) -> None:
    await lose(client, "1 = 1")
    with pytest.raises(DeadlinePassed):
        await complete(client, 0, 0, late_s=31)
    assert await windows(client) == []
    for partition, offset in ((0, 0), (1, 0), (0, 1)):
        await complete(client, partition, offset)
    assert await windows(client) == whole


async def test_a_range_of_minutes_and_cuts_is_compared_and_completed(
    client: ClickhouseClient, whole: list[Any]
) -> None:
    await lose(client, "toYear(minute) = 2026 AND meter = 'met_latest'")
    below = WindowScope(start=ALL.start, end=ALL.end, cut=CUT + 1, below=True)
    assert (await compare_windows(client, below, within_s=30)).short > 0
    none = WindowScope(start=ALL.start, end=ALL.end, cut=CUT, below=True)
    assert (await compare_windows(client, none, within_s=30)).is_none
    await add_missing(client, below, token="range", insert_before=later(30), within_s=30)
    assert await windows(client) == whole


async def test_lost_windows_of_a_done_block_are_noticed_whatever_others_add(
    client: ClickhouseClient, whole: list[Any]
) -> None:
    scope = await touched_by(client, TOPIC, 0, 0, 0, CUT)
    assert scope is not None
    assert await lacks_windows(client, scope) == 0
    await lose(client, "toYear(minute) = 2025")
    assert 0 < await lacks_windows(client, scope) < len(whole)
    assert await touched_by(client, TOPIC, 0, 7, 9, CUT) is None
