"""Ranges of the ledger as the duplicate filter is rebuilt by, on a real PostgreSQL."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import msgspec
import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.settings import PostgresSettings
from stores.postgres.engine import create_engine
from stores.postgres.ledger import Ledger
from stores.postgres.ledger_ranges import stored_ranges
from tests.support.database import database
from tests.support.ledgers import LOGGED_AT, TOPIC, add_partitions, intent

WINDOW = 36


@pytest.fixture(scope="module")
def settings(postgres_url: str) -> Iterator[PostgresSettings]:
    with database(postgres_url, "test_ledger_ranges") as found:
        yield found


@pytest.fixture
async def engine(settings: PostgresSettings) -> AsyncIterator[AsyncEngine]:
    with psycopg.connect(settings.url.reveal()) as connection:
        connection.execute("TRUNCATE ledger_partitions, ledger_blocks")
    add_partitions(settings, 1)
    engine = create_engine(settings)
    yield engine
    await engine.dispose()


async def write(engine: AsyncEngine, blocks: list[tuple[float, int]]) -> None:
    """Blocks of ten offsets: (day on which they were logged, events stored)."""
    ledger = Ledger(engine)
    epoch = (await ledger.take_over(TOPIC, 0, 1)).epoch
    for number, (day, stored) in enumerate(blocks):
        at = LOGGED_AT + timedelta(days=day)
        block = msgspec.structs.replace(
            intent(number * 10, number * 10 + 9, stored=stored), first_logged_at=at, last_logged_at=at
        )
        await ledger.finish(epoch, await ledger.write_intent(epoch, block, 30))


async def read(engine: AsyncEngine, above: int = -1, size: int = 100) -> list[tuple[int, int, int]]:
    found = await stored_ranges(engine, TOPIC, 0, above, window_days=WINDOW, size=size)
    return [(one.first_offset, one.last_offset, one.stored) for one in found]


async def test_a_range_ends_at_its_size_and_at_midnight(engine: AsyncEngine) -> None:
    await write(engine, [(0, 60), (0, 60), (0, 60), (1, 10), (1, 0), (1, 10)])
    assert await read(engine) == [(0, 19, 120), (20, 29, 60), (30, 59, 20)]


async def test_only_what_lies_above_is_read_and_whole_rows_of_it(engine: AsyncEngine) -> None:
    await write(engine, [(0, 5), (0, 5), (0, 5)])
    assert await read(engine, above=9) == [(10, 29, 10)]
    assert await read(engine, above=14) == [(10, 29, 10)]
    assert await read(engine, above=29) == []


async def test_what_has_left_the_window_of_the_log_time_is_not_needed(engine: AsyncEngine) -> None:
    await write(engine, [(0, 5), (3, 6), (38, 7)])
    assert await read(engine) == [(10, 19, 6), (20, 29, 7)]


async def test_ranges_stay_in_order_when_the_brokers_clock_steps_back_over_midnight(engine: AsyncEngine) -> None:
    await write(engine, [(0.9, 1), (1.01, 1), (0.99, 1), (1.02, 1)])
    assert await read(engine) == [(0, 9, 1), (10, 39, 3)]


async def test_a_block_that_is_not_done_is_none_of_them(engine: AsyncEngine) -> None:
    await write(engine, [(0, 5)])
    ledger = Ledger(engine)
    epoch = (await ledger.take_over(TOPIC, 0, 1)).epoch
    await ledger.write_intent(epoch, intent(10, 19), 30)
    assert await read(engine) == [(0, 9, 5)]
