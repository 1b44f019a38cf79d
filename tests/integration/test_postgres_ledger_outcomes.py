"""A ledger step whose outcome is unknown is taken again: connections are cut at random moments, nothing is lost or doubled."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import TypeVar

import psycopg
import pytest

from domain.errors import Unavailable
from runtime.settings import PostgresSettings
from stores.postgres.engine import create_engine
from stores.postgres.ledger import Ledger
from tests.support.database import database
from tests.support.ledgers import TOPIC, add_partitions, intent

T = TypeVar("T")
BLOCKS = 120
CUTS = 25
ATTEMPTS = 200


@pytest.fixture(scope="module")
def settings(postgres_url: str) -> Iterator[PostgresSettings]:
    with database(postgres_url, "test_ledger_outcomes") as found:
        add_partitions(found, 1)
        yield found


@pytest.fixture
async def ledger(settings: PostgresSettings) -> AsyncIterator[Ledger]:
    engine = create_engine(settings)
    yield Ledger(engine)
    await engine.dispose()


async def _until_known(step: Callable[[], Awaitable[T]]) -> tuple[T, int]:
    """The answer, and how many outcomes were unknown before it."""
    for attempt in range(ATTEMPTS):
        try:
            return await step(), attempt
        except Unavailable:
            continue
    raise AssertionError(f"no answer in {ATTEMPTS} attempts")


async def _cut_connections(settings: PostgresSettings, chance: random.Random) -> None:
    async with await psycopg.AsyncConnection.connect(settings.url.reveal(), autocommit=True) as admin:
        for _ in range(CUTS):
            await admin.execute("SELECT pg_sleep(%s)", [chance.uniform(0, 0.02)])
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


async def test_repeated_steps_make_every_block_once_and_in_order(ledger: Ledger, settings: PostgresSettings) -> None:
    epoch = (await ledger.take_over(TOPIC, 0, 1)).epoch
    cutting = asyncio.create_task(_cut_connections(settings, random.Random(7)))
    block, unknown = await _until_known(lambda: ledger.write_intent(epoch, intent(0, 0), 30))
    offset = 0
    while offset + 1 < BLOCKS or not cutting.done():
        offset += 1
        before, following = block, intent(offset, offset)
        if offset % 3:
            block, lost = await _until_known(partial(ledger.finish_and_intend, epoch, before, following, 30))
        else:
            _, lost_before = await _until_known(partial(ledger.finish, epoch, before))
            block, lost = await _until_known(partial(ledger.write_intent, epoch, following, 30))
            lost += lost_before
        unknown += lost
    await cutting
    _, lost = await _until_known(lambda: ledger.finish(epoch, block))
    found = await ledger.done_blocks_above(TOPIC, 0, -1)
    assert [one.intent.first_offset for one in found] == list(range(offset + 1))
    assert all(one.state == "done" for one in found)
    assert await ledger.done_vector(TOPIC) == {0: offset}
    assert await ledger.open_block(TOPIC, 0) is None
    assert unknown + lost > 0, "no connection was cut in the middle of a step: the test has proved nothing"
