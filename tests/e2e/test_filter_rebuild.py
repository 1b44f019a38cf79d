"""A worker without local state knows every copy at once: from the store while it loads, from its filter afterwards."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, cast

import msgspec
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.catalog import Catalog, CatalogLog
from domain.records import MS_PER_DAY, LogRecord
from runtime.clock import SystemClock
from runtime.settings import ClickhouseSettings, IngestSettings, PostgresSettings, Secret, Settings, WorkerSettings
from schemas.meters import Meter
from stores.clickhouse.blocks import insert_block
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.migrations import Migrations
from stores.clickhouse.tokens import token_windows
from stores.postgres.engine import create_engine
from stores.postgres.ledger import Ledger
from stores.postgres.migrations import migrate
from stores.rocks.filter import DuplicateFilter
from stores.rocks.memory import FilterMemory
from streams.ingest_block import BlockEvaluator, PreparedBlock
from streams.ingest_deps import IngestDeps
from streams.ingest_errors import LedgerMismatchError
from streams.ingest_filter import PartitionFilter
from tests.support.ingest import catalog_version
from tests.support.ledgers import add_partitions
from tests.support.servers import running
from tests.support.waiting import eventually_async

METER = Meter(id="met_calls", key="calls", event_types=("call",), aggregation="count")
FIRST_DAY = 20_400
DAYS = 40
WINDOW = 36
EVENTS_A_DAY = 30
RECORDS_A_BLOCK = 3


class Gate:
    """Stands for the semaphore of loads: lets so many in, and the others once it is opened."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.free = 0

    async def __aenter__(self) -> None:
        if self.free <= 0:
            await self.opened.wait()
        self.free -= 1

    async def __aexit__(self, *_: object) -> None:
        pass


class World:
    """One partition: its log as it grows, the stores, and the filter that never lost anything."""

    def __init__(self, settings: Settings, engine: AsyncEngine, clickhouse: ClickhouseClient, topic_id: str) -> None:
        self.settings = settings
        self.engine = engine
        self.clickhouse = clickhouse
        self.topic_id = topic_id
        self.ledger = Ledger(engine)
        self.gate = Gate()
        self.evaluation = ThreadPoolExecutor(max_workers=1)
        self.next_offset = 0
        log = CatalogLog()
        log.append(catalog_version(1, [METER]))
        self.catalog: Catalog = log.at(1)

    def deps(self, root: Path) -> IngestDeps:
        memory = FilterMemory()
        return IngestDeps(
            settings=self.settings,
            clock=SystemClock(),
            topic_id=self.topic_id,
            engine=self.engine,
            ledger=self.ledger,
            clickhouse=self.clickhouse,
            producer=cast("Any", None),
            catalog=cast("Any", self),
            log=cast("Any", None),
            end_offset=cast("Any", None),
            commit=cast("Any", None),
            open_filter=lambda partition: DuplicateFilter(root / str(partition), memory, self.topic_id),
            evaluation=self.evaluation,
            inserts=asyncio.Semaphore(1),
            loads=cast("Any", self.gate),
        )

    def current(self) -> Catalog:
        return self.catalog

    def records(self, numbers: list[int], day: int) -> list[LogRecord]:
        """One block's records with these events, logged on `day`."""
        size = -(-len(numbers) // RECORDS_A_BLOCK)
        found = []
        for start in range(0, len(numbers), size):
            events = [
                {"id": f"e{number}", "type": "call", "customer": "c1"} for number in numbers[start : start + size]
            ]
            at = day * MS_PER_DAY + self.next_offset % MS_PER_DAY
            found.append(
                LogRecord(
                    offset=self.next_offset,
                    logged_at_ms=at,
                    received_at_ms=at,
                    tenant="acme",
                    environment="live",
                    version=1,
                    value=msgspec.json.encode(events),
                )
            )
            self.next_offset += 1
        return found


class Owner:
    """A worker that took the partition over, as far as its filter goes."""

    def __init__(self, world: World, filter_: PartitionFilter, epoch: int) -> None:
        self.world = world
        self.filter = filter_
        self.epoch = epoch
        self.evaluator = BlockEvaluator(
            topic_id=world.topic_id,
            partition=0,
            partitions=1,
            shards=1,
            duplicates=filter_.duplicates,
            evaluation=world.evaluation,
            look_up=filter_.look_up,
            budget_s=1,
        )

    async def prepare(self, numbers: list[int], day: int) -> PreparedBlock:
        prepared = await self.evaluator.prepare(self.world.records(numbers, day), self.world.catalog)
        assert prepared is not None
        return prepared

    async def write(self, numbers: list[int], day: int) -> PreparedBlock:
        """A whole block."""
        prepared = await self.prepare(numbers, day)
        world = self.world
        opened = await world.ledger.write_intent(self.epoch, prepared.intent, 30)
        await insert_block(
            world.clickhouse,
            prepared.batch,
            token=prepared.token,
            cut=opened.cut,
            insert_before=opened.insert_before,
            deadline_s=30,
        )
        await self.evaluator.enter(prepared.outcomes, day - WINDOW)
        await world.ledger.finish(self.epoch, opened)
        return prepared

    async def gone(self) -> None:
        """As a kill, but for the lock on the directory."""
        await self.filter.stop()
        self.filter.duplicates.close()


@pytest.fixture(scope="module")
def endpoints() -> Iterator[dict[str, str]]:
    with running("postgres", "clickhouse") as found:
        postgres = PostgresSettings(url=Secret(found["postgres_url"]))
        migrate(postgres)
        yield found


@pytest.fixture
async def world(endpoints: dict[str, str], request: pytest.FixtureRequest) -> AsyncIterator[World]:
    settings = Settings(
        postgres=PostgresSettings(url=Secret(endpoints["postgres_url"])),
        clickhouse=ClickhouseSettings(url=Secret(endpoints["clickhouse_url"])),
        worker=WorkerSettings(retry_budget_s=1.0),
        ingest=IngestSettings(filter_range_events=EVENTS_A_DAY),
    )
    topic_id = request.node.name
    add_partitions(settings.postgres, 1, topic_id)
    engine = create_engine(settings.postgres)
    clickhouse = ClickhouseClient(settings.clickhouse)
    await Migrations(clickhouse, token_windows(settings), SystemClock()).apply()
    world = World(settings, engine, clickhouse, topic_id)
    yield world
    await clickhouse.close()
    await engine.dispose()
    world.evaluation.shutdown()


async def take_over(world: World, root: Path, *, load: int) -> Owner:
    """`load`: how many ranges may be loaded before the gate is opened."""
    ended: list[asyncio.Task[None]] = []
    world.gate.opened.clear()
    world.gate.free = load
    state = await world.ledger.take_over(world.topic_id, 0, 1)
    filter_ = await PartitionFilter.opened(world.deps(root), 0, ended.append)
    await filter_.bring_up(state)
    return Owner(world, filter_, state.epoch)


async def fill(owner: Owner, chance: Random, days: int = DAYS) -> dict[int, int]:
    """A block a day, some of it copies of any day; event -> the day of its last first copy."""
    firsts: dict[int, int] = {}
    for day in range(FIRST_DAY, FIRST_DAY + days):
        fresh = [len(firsts) + number for number in range(EVENTS_A_DAY)]
        numbers = fresh + chance.choices(sorted(firsts), k=10) if firsts else fresh
        expected = {one for one in numbers if one not in firsts or firsts[one] < day - WINDOW}
        prepared = await owner.write(numbers, day)
        assert prepared.intent.stored == len(expected)
        firsts |= dict.fromkeys(expected, day)
    return firsts


def judged(prepared: PreparedBlock) -> tuple[list[str], dict[str, tuple[int, int]]]:
    """Which events are new, and of the others where they stand first."""
    outcomes = prepared.outcomes
    return outcomes.stored.id, {one.id: (one.first_offset, one.first_index) for one in outcomes.duplicates}


async def test_copies_of_old_days_are_known_before_while_and_after_the_filter_is_loaded(
    world: World, tmp_path: Path
) -> None:
    chance = Random(7)
    former = await take_over(world, tmp_path / "a", load=0)
    firsts = await fill(former, chance)
    today = FIRST_DAY + DAYS - 1
    numbers = [*sorted(firsts), *range(100_000, 100_020)]
    chance.shuffle(numbers)
    truth = judged(await former.prepare(numbers, today))
    assert set(truth[0]) == {f"e{one}" for one in numbers if one not in firsts or firsts[one] < today - WINDOW}
    await former.gone()

    owner = await take_over(world, tmp_path / "b", load=3)
    world.next_offset = (await world.ledger.done_vector(world.topic_id))[0] + 1
    assert owner.filter.duplicates.gaps
    assert judged(await owner.prepare(numbers, today)) == truth
    world.next_offset -= RECORDS_A_BLOCK
    fresh = await owner.write([*range(200_000, 200_010), *sorted(firsts)[-30:]], today)
    assert fresh.intent.stored == 10
    again = await owner.prepare([*range(200_000, 200_010), *numbers], today)
    assert (again.intent.stored, len(judged(again)[1])) == (len(truth[0]), len(truth[1]) + 10)

    world.gate.free = 5
    world.gate.opened.set()
    await eventually_async(lambda: not owner.filter.duplicates.gaps, 20)
    assert judged(await owner.prepare(numbers, today)) == truth
    await owner.gone()


async def test_a_worker_that_comes_back_knows_what_others_did_and_what_it_had_not_loaded(
    world: World, tmp_path: Path
) -> None:
    """A, killed in mid-load twice; B; A again (protocol 11)."""
    chance = Random(8)
    first = await take_over(world, tmp_path / "c", load=0)
    firsts = await fill(first, chance)
    await first.gone()
    today = FIRST_DAY + DAYS - 1
    for load in (2, 4):
        owner = await take_over(world, tmp_path / "a", load=load)
        left = owner.filter.duplicates.gaps
        assert left
        await owner.gone()
    other = await take_over(world, tmp_path / "b", load=1)
    await other.write(list(range(300_000, 300_030)), today)
    await other.gone()

    owner = await take_over(world, tmp_path / "a", load=1)
    assert owner.filter.duplicates.gaps[0][0] == left[0][0]
    known = [one for one, day in firsts.items() if day >= today - WINDOW]
    prepared = await owner.prepare([*known, *range(300_000, 300_030), 400_000], today)
    assert prepared.outcomes.stored.id == ["e400000"]
    await owner.gone()


async def test_a_store_that_lacks_what_the_ledger_names_is_refused(world: World, tmp_path: Path) -> None:
    owner = await take_over(world, tmp_path / "a", load=0)
    await fill(owner, Random(9), days=4)
    await owner.gone()
    await world.clickhouse.command(
        "ALTER TABLE events DELETE WHERE topic_id = {topic:String} AND offset BETWEEN 3 AND 5",
        {"topic": world.topic_id},
        mutations_sync=2,
    )
    with pytest.raises(LedgerMismatchError, match="blocks from 3 to 5"):
        await take_over(world, tmp_path / "b", load=1)
