"""Old intents go on one at a time within a cut, each alone until its deadline has passed (protocol 1)."""

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.clock import SystemClock
from runtime.settings import PostgresSettings
from schemas.ledger import LedgerBlock
from stores.postgres.cuts import Cuts
from stores.postgres.engine import create_engine
from stores.postgres.ledger import Fenced, Ledger
from tests.support.database import database
from tests.support.ledgers import TOPIC, add_partitions, intent

DEADLINE_S = 30.0
EPOCH = 1


@pytest.fixture(scope="module")
def settings(postgres_url: str) -> Iterator[PostgresSettings]:
    with database(postgres_url, "ledger_leases") as settings:
        add_partitions(settings, 4)
        yield settings


@pytest.fixture
async def engine(settings: PostgresSettings) -> AsyncIterator[AsyncEngine]:
    with psycopg.connect(settings.url.reveal()) as connection:
        connection.execute("DELETE FROM ledger_blocks")
        connection.execute("UPDATE ledger_partitions SET epoch = 1, last_offset = -1, open_last_offset = NULL")
    engine = create_engine(settings)
    yield engine
    await engine.dispose()


@pytest.fixture
def ledger(engine: AsyncEngine) -> Ledger:
    return Ledger(engine)


async def opened(ledger: Ledger, partition: int, *, deadline_s: float = -60, stored: int = 3) -> LedgerBlock:
    """An intent whose deadline passed a minute ago."""
    return await ledger.write_intent(EPOCH, intent(0, 9, partition=partition, stored=stored), deadline_s)


async def lease(ledger: Ledger, block: LedgerBlock, *, epoch: int = EPOCH) -> LedgerBlock | float:
    return await ledger.lease(epoch, block, DEADLINE_S, skew_s=1)


async def leased(ledger: Ledger, block: LedgerBlock) -> LedgerBlock:
    found = await lease(ledger, block)
    assert isinstance(found, LedgerBlock)
    return found


async def test_one_block_of_a_cut_at_a_time_has_a_lease_until_it_is_done(ledger: Ledger) -> None:
    one, other = await opened(ledger, 0), await opened(ledger, 1)
    held = await leased(ledger, one)
    assert held.insert_before > one.insert_before
    waits = await lease(ledger, other)
    assert isinstance(waits, float)
    assert DEADLINE_S < waits <= DEADLINE_S + 1
    await ledger.finish(EPOCH, held)
    await leased(ledger, other)


async def test_a_deadline_of_any_block_of_the_cut_is_waited_out_also_its_own(ledger: Ledger) -> None:
    old, young = await opened(ledger, 0), await opened(ledger, 1, deadline_s=10)
    assert isinstance(await lease(ledger, old), float)
    await ledger.finish(EPOCH, young)
    assert isinstance(await lease(ledger, old), LedgerBlock)
    assert isinstance(await lease(ledger, old), float)  # what was sent under the first one may be on its way


async def test_blocks_without_rows_and_of_other_cuts_do_not_count(ledger: Ledger, engine: AsyncEngine) -> None:
    old = await opened(ledger, 0)
    await opened(ledger, 1, deadline_s=30, stored=0)
    await Cuts(engine).raise_cut(0, SystemClock().now())
    later = await opened(ledger, 2, deadline_s=30)
    assert later.cut > old.cut
    await leased(ledger, old)


async def test_no_block_that_is_opened_later_carries_the_cut(ledger: Ledger) -> None:
    old = await opened(ledger, 0)
    await leased(ledger, old)
    assert (await opened(ledger, 1)).cut > old.cut


async def test_the_token_of_another_block_of_the_cut_is_forgotten_however_young_it_is(ledger: Ledger) -> None:
    old, young = await opened(ledger, 0), await opened(ledger, 1)
    held = await leased(ledger, old)
    with pytest.raises(Fenced):
        await ledger.renew(EPOCH, young, DEADLINE_S)
    with pytest.raises(Fenced):
        await ledger.renew(EPOCH, held, DEADLINE_S)
    found = await ledger.open_block(TOPIC, 1)
    assert found is not None
    assert found.intent_at.year == 1970  # older than any horizon: its owner looks before it inserts
    await ledger.finish(EPOCH, young)  # it was stored in time, and its owner knows


async def test_a_fenced_worker_gets_no_lease(ledger: Ledger) -> None:
    old = await opened(ledger, 0)
    await ledger.take_over(TOPIC, 0, generation=1)
    with pytest.raises(Fenced):
        await lease(ledger, old)
    assert isinstance(await lease(ledger, old, epoch=2), LedgerBlock)
