"""protocol 10 on a real PostgreSQL: an intent and a raise of the cut wait for each other."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import text

from domain.errors import Conflict, NotFound
from runtime.settings import PostgresSettings
from schemas.cuts import RaisedCut
from stores.postgres.cutoffs import reach_of, reaches_of
from stores.postgres.cuts import Cuts
from stores.postgres.engine import create_engine, transaction
from stores.postgres.ledger import Ledger
from tests.support.database import database
from tests.support.ledgers import LOGGED_AT, TOPIC, add_partitions, intent

DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def settings(postgres_url: str) -> Iterator[PostgresSettings]:
    with database(postgres_url, "test_cuts") as found:
        yield found


@pytest.fixture
async def stores(settings: PostgresSettings) -> AsyncIterator[tuple[Ledger, Cuts]]:
    with psycopg.connect(settings.url.reveal()) as connection:
        connection.execute("TRUNCATE ledger_partitions, ledger_blocks, usage_cuts")
        connection.execute("UPDATE usage_cut SET cut = 1, raised_at = %s", [LOGGED_AT])
    add_partitions(settings, 2)
    engine = create_engine(settings)
    yield Ledger(engine), Cuts(engine)
    await engine.dispose()


async def test_a_cut_is_raised_once_per_interval(stores: tuple[Ledger, Cuts]) -> None:
    _, cuts = stores
    assert await cuts.raise_cut(60, LOGGED_AT + timedelta(seconds=59)) == 1
    assert await cuts.raise_cut(60, LOGGED_AT + timedelta(seconds=60)) == 2
    assert await cuts.raise_cut(60, LOGGED_AT + timedelta(seconds=61)) == 2
    assert await cuts.raise_cut(0, LOGGED_AT + timedelta(seconds=61)) == 3
    assert await cuts.current() == 3


async def test_each_cut_keeps_its_instant_so_that_the_cutoff_of_an_instant_can_be_found(
    stores: tuple[Ledger, Cuts],
) -> None:
    _, cuts = stores
    hours = [LOGGED_AT + timedelta(hours=number) for number in range(1, 5)]
    raised = [RaisedCut(cut=await cuts.raise_cut(0, at), raised_at=at) for at in hours]
    assert await cuts.list(limit=10) == raised[::-1]
    assert await cuts.list(limit=1, end=hours[2]) == [raised[1]]
    assert await cuts.list(limit=10, start=hours[1], end=hours[3]) == [raised[2], raised[1]]
    assert await cuts.list(limit=2, below=raised[3].cut) == [raised[2], raised[1]]


async def test_usage_is_read_only_at_a_complete_cut_that_was_raised(stores: tuple[Ledger, Cuts]) -> None:
    ledger, cuts = stores
    await cuts.require_complete(1, within_s=1)
    for unknown in (0, 2):
        with pytest.raises(NotFound) as refusal:
            await cuts.require_complete(unknown, within_s=1)
        assert refusal.value.code == "cut_unknown"
    epoch = (await ledger.take_over(TOPIC, 0, 1)).epoch
    await ledger.write_intent(epoch, intent(0, 4), DEADLINE_S)
    await cuts.raise_cut(0, LOGGED_AT)
    with pytest.raises(Conflict):
        await cuts.require_complete(2, within_s=0.2)


async def test_a_cutoff_reaches_to_what_it_leaves_out_or_to_the_end_of_an_idle_partition(
    stores: tuple[Ledger, Cuts],
) -> None:
    ledger, cuts = stores
    epochs = [(await ledger.take_over(TOPIC, number, 1)).epoch for number in (0, 1)]
    block = await ledger.write_intent(epochs[0], intent(0, 4), DEADLINE_S)
    cut = await cuts.raise_cut(0, LOGGED_AT)
    await ledger.finish(epochs[0], await ledger.finish_and_intend(epochs[0], block, intent(5, 9), DEADLINE_S))
    idle_at = LOGGED_AT + timedelta(minutes=5)
    await ledger.mark_idle(epochs[1], TOPIC, 1, idle_at)
    following = await cuts.raise_cut(0, LOGGED_AT)
    reached = await reaches_of(ledger._engine, TOPIC, [cut, following])
    # The partition with the smaller instant says it; what it has done after the cut does not count.
    assert reached[cut].as_of == LOGGED_AT + timedelta(seconds=5)
    assert reached[cut].is_passed
    await ledger.mark_idle(epochs[0], TOPIC, 0, idle_at)
    assert (await reaches_of(ledger._engine, TOPIC, [following]))[following].as_of == idle_at
    assert not (await reach_of(ledger._engine, TOPIC, following)).is_passed


async def test_raising_waits_for_an_intent_that_has_read_the_cut(stores: tuple[Ledger, Cuts]) -> None:
    ledger, cuts = stores
    async with transaction(ledger._engine) as connection:
        await connection.execute(text("SELECT cut FROM usage_cut FOR SHARE"))
        raising = asyncio.create_task(cuts.raise_cut(0, LOGGED_AT))
        done, _ = await asyncio.wait({raising}, timeout=0.2)
        assert not done
    assert await raising == 2


async def test_an_intent_during_a_raise_waits_and_carries_the_new_cut(stores: tuple[Ledger, Cuts]) -> None:
    ledger, cuts = stores
    epoch = (await ledger.take_over(TOPIC, 0, 1)).epoch
    async with transaction(ledger._engine) as connection:
        await connection.execute(text("UPDATE usage_cut SET cut = cut + 1"))
        opening = asyncio.create_task(ledger.write_intent(epoch, intent(0, 4), DEADLINE_S))
        done, _ = await asyncio.wait({opening}, timeout=0.2)
        assert not done
    assert (await opening).cut == 2
    assert await cuts.is_complete(2)
    assert not await cuts.is_complete(3)


async def test_intents_of_two_partitions_do_not_wait_for_each_other(stores: tuple[Ledger, Cuts]) -> None:
    ledger, _ = stores
    epoch = (await ledger.take_over(TOPIC, 1, 1)).epoch
    async with transaction(ledger._engine) as connection:
        await connection.execute(text("SELECT cut FROM usage_cut FOR SHARE"))
        await asyncio.wait_for(ledger.write_intent(epoch, intent(0, 4, partition=1), DEADLINE_S), 5)


async def test_a_cutoff_is_complete_once_no_smaller_intent_is_open(stores: tuple[Ledger, Cuts]) -> None:
    ledger, cuts = stores
    epoch = (await ledger.take_over(TOPIC, 0, 1)).epoch
    block = await ledger.write_intent(epoch, intent(0, 4), DEADLINE_S)
    cutoff = await cuts.raise_cut(0, LOGGED_AT)
    assert await cuts.oldest_open() == 1
    with pytest.raises(Conflict) as refusal:
        await cuts.wait_complete(cutoff, within_s=0.2)
    assert refusal.value.code == "cut_open"
    waiting = asyncio.create_task(cuts.wait_complete(cutoff, within_s=10))
    following = await ledger.finish_and_intend(epoch, block, intent(5, 6), DEADLINE_S)
    await waiting
    assert following.cut == cutoff
    assert await cuts.oldest_open() == cutoff


async def test_cuts_never_fall_along_the_positions_of_a_partition(stores: tuple[Ledger, Cuts]) -> None:
    ledger, cuts = stores
    epoch = (await ledger.take_over(TOPIC, 0, 1)).epoch

    async def blocks() -> list[int]:
        block = await ledger.write_intent(epoch, intent(0, 0), DEADLINE_S)
        found = [block.cut]
        for offset in range(1, 40):
            block = await ledger.finish_and_intend(epoch, block, intent(offset, offset), DEADLINE_S)
            found.append(block.cut)
        return found

    async def raises() -> list[int]:
        return [await cuts.raise_cut(0, LOGGED_AT) for _ in range(20)]

    found, raised = await asyncio.gather(blocks(), raises())
    assert found == sorted(found)
    assert raised == list(range(2, 22))
