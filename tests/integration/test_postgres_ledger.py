"""The ledger's rules on a real PostgreSQL: two owners are two ledgers with pools of their own."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, timedelta

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from runtime.settings import PostgresSettings
from stores.postgres.engine import create_engine, transaction
from stores.postgres.ledger import Fenced, Ledger
from tests.support.database import database
from tests.support.ledgers import HOUR, LOGGED_AT, TOPIC, add_partitions, intent

DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def settings(postgres_url: str) -> Iterator[PostgresSettings]:
    with database(postgres_url, "test_ledger") as found:
        yield found


@pytest.fixture(autouse=True)
def _partitions(settings: PostgresSettings) -> None:
    with psycopg.connect(settings.url.reveal()) as connection:
        connection.execute("TRUNCATE ledger_partitions, ledger_blocks")
        connection.execute("UPDATE usage_cut SET cut = 1")
    add_partitions(settings, 2)


@pytest.fixture
async def ledger(settings: PostgresSettings) -> AsyncIterator[Ledger]:
    engine = create_engine(settings)
    yield Ledger(engine)
    await engine.dispose()


@pytest.fixture
async def rival(settings: PostgresSettings) -> AsyncIterator[Ledger]:
    engine = create_engine(settings)
    yield Ledger(engine)
    await engine.dispose()


async def _take_over(ledger: Ledger, generation: int = 1) -> int:
    return (await ledger.take_over(TOPIC, 0, generation)).epoch


async def test_a_block_goes_from_intent_to_done_and_moves_the_partition(ledger: Ledger) -> None:
    epoch = await _take_over(ledger)
    block = await ledger.write_intent(epoch, intent(0, 4), DEADLINE_S)
    assert (block.cut, block.state, block.epoch) == (1, "intent", epoch)
    assert block.insert_before - block.intent_at == timedelta(seconds=DEADLINE_S)
    assert await ledger.open_block(TOPIC, 0) == block
    assert await ledger.done_vector(TOPIC) == {0: -1, 1: -1}
    await ledger.finish(epoch, block)
    assert await ledger.open_block(TOPIC, 0) is None
    assert await ledger.done_vector(TOPIC) == {0: 4, 1: -1}


async def test_a_zombie_cannot_begin_renew_or_finish_a_block(ledger: Ledger, rival: Ledger) -> None:
    zombie = await _take_over(ledger)
    block = await ledger.write_intent(zombie, intent(0, 4), DEADLINE_S)
    owner = await _take_over(rival, generation=2)
    with pytest.raises(Fenced):
        await ledger.finish(zombie, block)
    with pytest.raises(Fenced):
        await ledger.renew(zombie, block, DEADLINE_S)
    with pytest.raises(Fenced):
        await ledger.finish_and_intend(zombie, block, intent(5, 6), DEADLINE_S)
    inherited = await rival.open_block(TOPIC, 0)
    assert inherited == block
    await rival.finish(owner, inherited)
    with pytest.raises(Fenced):
        await ledger.write_intent(zombie, intent(5, 6), DEADLINE_S)
    with pytest.raises(Fenced):
        await ledger.finish(zombie, block)  # done, but not by us: a zombie must learn that it is one
    with pytest.raises(Fenced):
        await ledger.mark_idle(zombie, TOPIC, 0, LOGGED_AT)


async def test_of_two_take_overs_only_the_later_owns(ledger: Ledger, rival: Ledger) -> None:
    epochs = await asyncio.gather(_take_over(ledger), _take_over(rival))
    assert sorted(epochs) == [1, 2]
    later = max(epochs)
    with pytest.raises(Fenced):
        await ledger.write_intent(min(epochs), intent(0, 4), DEADLINE_S)
    assert (await ledger.write_intent(later, intent(0, 4), DEADLINE_S)).epoch == later


async def test_an_older_generation_cannot_raise_the_epoch(ledger: Ledger, rival: Ledger) -> None:
    owner = await _take_over(rival, generation=7)
    with pytest.raises(Fenced):
        await _take_over(ledger, generation=6)
    assert (await rival.write_intent(owner, intent(0, 4), DEADLINE_S)).epoch == owner


async def test_a_group_that_kafka_has_forgotten_counts_from_one_again(
    ledger: Ledger, settings: PostgresSettings
) -> None:
    with psycopg.connect(settings.url.reveal()) as connection:
        query = "UPDATE ledger_partitions SET generation = 7, idle_as_of = now() - make_interval(mins => %s) WHERE partition = %s"
        connection.cursor().executemany(query, [(59, 0), (61, 1)])
    with pytest.raises(Fenced):
        await ledger.take_over(TOPIC, 0, 1)
    assert (await ledger.take_over(TOPIC, 1, 1)).generation == 1


async def test_a_block_must_follow_the_last_one_without_a_gap(ledger: Ledger) -> None:
    epoch = await _take_over(ledger)
    for wrong in (intent(1, 4), intent(-1, 4)):
        with pytest.raises(Fenced):
            await ledger.write_intent(epoch, wrong, DEADLINE_S)
    await ledger.finish(epoch, await ledger.write_intent(epoch, intent(0, 4), DEADLINE_S))
    with pytest.raises(Fenced):
        await ledger.write_intent(epoch, intent(0, 4), DEADLINE_S)


async def test_a_partition_has_one_open_block(ledger: Ledger) -> None:
    epoch = await _take_over(ledger)
    await ledger.write_intent(epoch, intent(0, 4), DEADLINE_S)
    with pytest.raises(Fenced):
        await ledger.write_intent(epoch, intent(0, 5), DEADLINE_S)


async def test_two_intents_at_once_open_one_block(ledger: Ledger, rival: Ledger) -> None:
    epoch = await _take_over(ledger)
    outcomes = await asyncio.gather(
        ledger.write_intent(epoch, intent(0, 4), DEADLINE_S),
        rival.write_intent(epoch, intent(0, 9), DEADLINE_S),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, Fenced) for outcome in outcomes) == 1
    assert (await ledger.open_block(TOPIC, 0)) in outcomes


async def test_a_version_cannot_go_back(ledger: Ledger) -> None:
    epoch = await _take_over(ledger)
    block = await ledger.write_intent(epoch, intent(0, 4, version=5), DEADLINE_S)
    with pytest.raises(Fenced):
        await ledger.finish_and_intend(epoch, block, intent(5, 6, version=4), DEADLINE_S)
    await ledger.finish(epoch, block)
    with pytest.raises(Fenced):
        await ledger.write_intent(epoch, intent(5, 6, version=4), DEADLINE_S)
    with pytest.raises(Fenced):
        await ledger.record_empty(epoch, topic_id=TOPIC, partition=0, last_offset=4, version=4, evaluator=1)
    await ledger.write_intent(epoch, intent(5, 6, version=5), DEADLINE_S)


async def test_the_same_intent_again_is_the_block_it_was_first(ledger: Ledger) -> None:
    epoch = await _take_over(ledger)
    block = await ledger.write_intent(epoch, intent(0, 4), DEADLINE_S)
    assert await ledger.write_intent(epoch, intent(0, 4), DEADLINE_S) == block
    with pytest.raises(Fenced):
        await ledger.write_intent(epoch, intent(0, 4, stored=2), DEADLINE_S)


async def test_finishing_again_is_done_already(ledger: Ledger) -> None:
    epoch = await _take_over(ledger)
    block = await ledger.write_intent(epoch, intent(0, 4), DEADLINE_S)
    await ledger.finish(epoch, block)
    await ledger.finish(epoch, block)
    following = await ledger.write_intent(epoch, intent(5, 6), DEADLINE_S)
    await ledger.finish(epoch, block)
    assert await ledger.open_block(TOPIC, 0) == following


async def test_under_backlog_done_and_the_next_intent_are_one_step_and_repeatable(ledger: Ledger) -> None:
    epoch = await _take_over(ledger)
    block = await ledger.write_intent(epoch, intent(0, 4), DEADLINE_S)
    following = await ledger.finish_and_intend(epoch, block, intent(5, 9), DEADLINE_S)
    assert await ledger.done_vector(TOPIC) == {0: 4, 1: -1}
    assert await ledger.open_block(TOPIC, 0) == following
    assert await ledger.finish_and_intend(epoch, block, intent(5, 9), DEADLINE_S) == following
    with pytest.raises(ValueError, match="does not follow"):
        await ledger.finish_and_intend(epoch, following, intent(11, 12), DEADLINE_S)


async def test_renewing_moves_the_deadline_and_keeps_the_cut(ledger: Ledger, settings: PostgresSettings) -> None:
    epoch = await _take_over(ledger)
    block = await ledger.write_intent(epoch, intent(0, 4), 1.0)
    with psycopg.connect(settings.url.reveal()) as connection:
        connection.execute("UPDATE usage_cut SET cut = cut + 1")
    successor = await _take_over(ledger, generation=2)
    renewed = await ledger.renew(successor, block, DEADLINE_S)
    assert (renewed.cut, renewed.epoch) == (block.cut, successor)
    assert renewed.insert_before > block.insert_before
    assert await ledger.open_block(TOPIC, 0) == renewed


async def test_an_idle_partition_takes_a_version_over_and_the_next_block_takes_the_rows_place(ledger: Ledger) -> None:
    epoch = await _take_over(ledger)
    for version in (3, 4):
        await ledger.record_empty(epoch, topic_id=TOPIC, partition=0, last_offset=-1, version=version, evaluator=1)
    empty = await ledger.block_at(TOPIC, 0, 0)
    assert empty is not None
    assert (empty.state, empty.intent.version, empty.intent.last_offset) == ("empty", 4, -1)
    assert [row.version for row in await ledger.progress(TOPIC)] == [4, 0]
    block = await ledger.write_intent(epoch, intent(0, 4, version=4), DEADLINE_S)
    assert await ledger.block_at(TOPIC, 0, 0) == block


async def test_a_confirmed_gap_moves_the_chain_on_and_stays_visible(ledger: Ledger) -> None:
    epoch = await _take_over(ledger)
    await ledger.finish(epoch, await ledger.write_intent(epoch, intent(0, 4), DEADLINE_S))
    for _ in range(2):
        await ledger.record_gap(epoch, topic_id=TOPIC, partition=0, first_offset=5, last_offset=7, evaluator=1)
    await ledger.finish(epoch, await ledger.write_intent(epoch, intent(8, 8), DEADLINE_S))
    found = await ledger.done_blocks_above(TOPIC, 0, 2)
    assert [(block.state, block.intent.first_offset) for block in found] == [("done", 0), ("gap", 5), ("done", 8)]
    assert [block.intent.first_offset for block in await ledger.done_blocks_above(TOPIC, 0, 4)] == [5, 8]
    assert await ledger.done_blocks_above(TOPIC, 0, 8) == []
    assert len(await ledger.done_blocks_above(TOPIC, 0, -1)) == 3


async def test_a_broken_chain_is_not_repaired_by_overwriting(ledger: Ledger, settings: PostgresSettings) -> None:
    epoch = await _take_over(ledger)
    await ledger.finish(epoch, await ledger.write_intent(epoch, intent(0, 4), DEADLINE_S))
    with psycopg.connect(settings.url.reveal()) as connection:
        connection.execute("UPDATE ledger_partitions SET last_offset = -1 WHERE partition = 0")
    with pytest.raises(IntegrityError):
        await ledger.write_intent(epoch, intent(0, 9), DEADLINE_S)
    assert await ledger.done_vector(TOPIC) == {0: -1, 1: -1}
    assert await ledger.open_block(TOPIC, 0) is None


async def test_the_watermark_is_the_smallest_of_what_is_done_or_seen_idle(ledger: Ledger) -> None:
    assert (await ledger.watermark(TOPIC)).as_of.timestamp() == 0
    first = await _take_over(ledger)
    second = (await ledger.take_over(TOPIC, 1, 1)).epoch
    await ledger.mark_idle(second, TOPIC, 1, LOGGED_AT + timedelta(seconds=60))
    assert (await ledger.watermark(TOPIC)).as_of.timestamp() == 0
    await ledger.finish(first, await ledger.write_intent(first, intent(0, 4), DEADLINE_S))
    found = await ledger.watermark(TOPIC)
    assert (found.as_of, found.partitions) == (LOGGED_AT, 2)
    assert found.as_of.tzinfo is UTC or found.as_of.utcoffset() == timedelta(0)
    await ledger.mark_idle(first, TOPIC, 0, LOGGED_AT + timedelta(seconds=90))
    await ledger.mark_idle(first, TOPIC, 0, LOGGED_AT + timedelta(seconds=30))  # an older one changes nothing
    assert (await ledger.watermark(TOPIC)).as_of == LOGGED_AT + timedelta(seconds=60)
    with pytest.raises(ValueError, match="meterstream migrate"):
        await ledger.watermark("never-created")


async def test_counts_are_summed_per_receipt_hour_of_done_blocks(ledger: Ledger, settings: PostgresSettings) -> None:
    epoch = await _take_over(ledger)
    block = await ledger.write_intent(epoch, intent(0, 4, stored=3), DEADLINE_S)
    block = await ledger.finish_and_intend(epoch, block, intent(5, 9, stored=5), DEADLINE_S)
    block = await ledger.finish_and_intend(epoch, block, intent(10, 10, stored=100), DEADLINE_S)
    with psycopg.connect(settings.url.reveal()) as connection:
        connection.execute("UPDATE ledger_blocks SET done_at = %s WHERE state = 'done'", [LOGGED_AT])
    hour = timedelta(hours=1)
    (found,) = await ledger.counts(TOPIC, "acme", "live", LOGGED_AT - hour, LOGGED_AT + hour)
    assert (found.hour, found.stored, found.duplicate, found.rejected, found.forwarded) == (HOUR, 8, 2, 0, 0)
    assert await ledger.counts(TOPIC, "other", "live", LOGGED_AT - hour, LOGGED_AT + hour) == []
    assert await ledger.counts(TOPIC, "acme", "live", LOGGED_AT + hour, LOGGED_AT + 2 * hour) == []
    assert await ledger.counts(TOPIC, "acme", "live", LOGGED_AT - hour, LOGGED_AT) == []


async def test_a_take_over_waits_for_a_step_in_flight_and_then_sees_it(ledger: Ledger, rival: Ledger) -> None:
    epoch = await _take_over(ledger)
    async with transaction(ledger._engine) as connection:
        await connection.execute(
            text("UPDATE ledger_partitions SET open_last_offset = NULL WHERE topic_id = :t AND partition = 0"),
            {"t": TOPIC},
        )
        taking = asyncio.create_task(_take_over(rival, generation=2))
        zombie = asyncio.create_task(ledger.write_intent(epoch, intent(0, 4), DEADLINE_S))
        done, _ = await asyncio.wait({taking, zombie}, timeout=0.2)
        assert not done
    # Whoever comes first, the other checks its condition again on the row it then finds.
    owner = await taking
    outcome = (await asyncio.gather(zombie, return_exceptions=True))[0]
    inherited = await rival.open_block(TOPIC, 0)
    if isinstance(outcome, Fenced):
        assert inherited is None
        await rival.write_intent(owner, intent(0, 4), DEADLINE_S)
    else:
        assert inherited == outcome
        await rival.finish(owner, inherited)
