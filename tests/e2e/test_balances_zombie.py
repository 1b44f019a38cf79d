"""Two balances workers under load, stopped and continued, moved, killed, and robbed of their state: every balance exact."""

import asyncio
import contextlib
import functools
import random
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.balances import Versioned
from schemas.events import UsageEvent
from schemas.topics import BALANCES_CHANGELOG, CATALOG_CHANGED, ENTITLEMENTS_STATE, USAGE_DELTAS, USAGE_RAW
from tests.support.balances import METERS, agrees, contract, contracts_sent
from tests.support.broker import delete_topics
from tests.support.ingest import PARTITIONS, Stack, catalog, connected, event, records_of
from tests.support.pipeline import Worker, command, end_offsets, produce, read_topic, settings_of, worker
from tests.support.servers import running
from tests.support.waiting import eventually_async

CUSTOMERS = [0, 1, 2, 3, 4]
EVENTS_AT_ONCE = 30
SETTLED_WITHIN_S = 60
MOVED_WITHIN_S = 40
ROUNDS_MAX = 4
FAULTS = 8
_versioned = msgspec.json.Decoder(Versioned)


class Pair:
    """Two balances workers, `a` and `b`, each with a directory of its own; any of them may be away."""

    def __init__(self, environ: dict[str, str], directory: Path) -> None:
        self._environ = environ
        self._directory = directory
        self._running = contextlib.ExitStack()
        self.workers: dict[str, Worker] = {}

    def log(self, name: str) -> str:
        return (self._directory / f"{name}.log").read_text()

    def start(self, name: str) -> None:
        environ = {**self._environ, "METERSTREAM_WORKER_DATA_DIR": str(self._directory / name)}
        started = worker(environ, "balances", self._directory / f"{name}.log")
        self.workers[name] = self._running.enter_context(started)

    async def ready(self) -> None:
        """Returns once each one that runs has partitions and serves them."""
        await eventually_async(lambda: all(one.is_ready() for one in self.workers.values()), MOVED_WITHIN_S)

    def kill(self, name: str) -> None:
        self.workers.pop(name).kill()

    def stop(self, name: str) -> None:
        assert self.workers.pop(name).stop() == 0

    def wipe(self, name: str) -> None:
        shutil.rmtree(self._directory / name, ignore_errors=True)

    def close(self) -> None:
        self._running.close()
        for name in "ab":
            assert "differs from the usage" not in self.log(name)


class Load:
    """Events that come all the time, each twice."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.sent: list[UsageEvent] = []

    async def more(self) -> None:
        numbers = range(len(self.sent), len(self.sent) + EVENTS_AT_ONCE)
        events = [event(number) for number in numbers]
        await produce(self._stack.bootstrap, USAGE_RAW, records_of(events, 1, seed=len(self.sent)))
        self.sent += events

    async def _until(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            await self.more()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stopping = asyncio.Event()
        sending = asyncio.create_task(self._until(stopping))
        try:
            yield
        finally:
            stopping.set()
            await sending

    async def goes_on(self, batches: int) -> None:
        goal = len(self.sent) + batches * EVENTS_AT_ONCE
        await eventually_async(lambda: len(self.sent) >= goal, 60)

    async def settled(self) -> None:
        """Every balance is as counted by hand."""
        await eventually_async(lambda: agrees(self._stack, self.sent, CUSTOMERS), SETTLED_WITHIN_S, every_s=0.5)


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    directory = tmp_path_factory.mktemp("zombie")
    with running("kafka", "postgres", "clickhouse") as endpoints:
        found = settings_of(endpoints, directory, METERSTREAM_BALANCES_RECONCILE_INTERVAL_S="0.5")
        command(found, "migrate")
        with worker(found, "ingest", directory / "ingest.log"):
            yield found


@pytest.fixture
async def stack(environ: dict[str, str]) -> AsyncIterator[Stack]:
    async with connected(environ) as stack:
        yield stack


@pytest.fixture
async def load(stack: Stack) -> Load:
    """Goes on after the events of the test before."""
    load = Load(stack)
    if not await stack.count("events"):
        await produce(stack.bootstrap, CATALOG_CHANGED, [(0, catalog(1, METERS), [])], key=b"1")
        await contracts_sent(stack, [contract(customer, 1) for customer in CUSTOMERS])
    load.sent = [event(number) for number in range(await stack.count("events"))]
    return load


@pytest.fixture
def pair(environ: dict[str, str], tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(environ, tmp_path)
    pair.start("a")
    pair.start("b")
    yield pair
    pair.close()


async def tenures(stack: Stack) -> dict[int, int]:
    """Of each partition the greatest that its changelog has."""
    found = dict.fromkeys(range(PARTITIONS), 0)
    for record in await read_topic(stack.bootstrap, BALANCES_CHANGELOG, PARTITIONS):
        found[record.partition] = max(found[record.partition], _versioned.decode(record.value).version[0])
    return found


async def late_records(stack: Stack, topic: str) -> int:
    """Records of an owner that came after those of a later one."""
    count = 0
    greatest = dict.fromkeys(range(PARTITIONS), 0)
    for record in await read_topic(stack.bootstrap, topic, PARTITIONS):
        tenure = _versioned.decode(record.value).version[0]
        count += tenure < greatest[record.partition]
        greatest[record.partition] = max(tenure, greatest[record.partition])
    return count


async def last_is_greatest(stack: Stack, topic: str) -> bool:
    """Whether compaction, which keeps the last record of each key, would keep the greatest."""
    last: dict[bytes, tuple[int, int]] = {}
    greatest: dict[bytes, tuple[int, int]] = {}
    for record in await read_topic(stack.bootstrap, topic, PARTITIONS):
        last[record.key] = _versioned.decode(record.value).version
        greatest[record.key] = max(last[record.key], greatest.get(record.key, (0, 0)))
    return last == greatest


async def all_moved(stack: Stack, act: Callable[[], Any]) -> None:
    """Act, and see every partition taken over anew."""
    before = await tenures(stack)
    act()

    async def moved() -> bool:
        now = await tenures(stack)
        return all(now[number] > before[number] for number in before)

    await eventually_async(moved, MOVED_WITHIN_S, every_s=0.5)


async def test_what_a_stopped_worker_still_writes_changes_no_balance(stack: Stack, load: Load, pair: Pair) -> None:
    """SIGSTOP past the session's end, SIGCONT in the middle of a batch; then recoveries of every kind (protocol 9)."""
    late = 0
    async with load.running():
        await pair.ready()
        for _ in range(ROUNDS_MAX):
            stopped = pair.workers["a"]
            await all_moved(stack, lambda: stopped.signal(signal.SIGSTOP))  # noqa: B023 - awaited at once
            await all_moved(stack, lambda: stopped.signal(signal.SIGCONT))  # noqa: B023
            late = await late_records(stack, BALANCES_CHANGELOG) + await late_records(stack, ENTITLEMENTS_STATE)
            if late:
                break
    assert late, "a stopped worker had nothing left to write: this proves nothing"
    await load.settled()
    for topic in (BALANCES_CHANGELOG, ENTITLEMENTS_STATE):
        await eventually_async(functools.partial(last_is_greatest, stack, topic), MOVED_WITHIN_S, every_s=0.5)
    # The one that was stopped recovers what its own store lacks; then the other one recovers all.
    await asyncio.to_thread(pair.kill, "b")
    await load.more()
    await load.settled()
    await asyncio.to_thread(pair.kill, "a")
    pair.wipe("b")
    pair.start("b")
    await load.more()
    await load.settled()


async def test_workers_that_come_and_go_under_load_count_exactly(stack: Stack, load: Load, pair: Pair) -> None:
    chance = random.Random(7)
    async with load.running():
        for fault in chance.sample(["kill", "stop", "wipe", "pause"] * 2, FAULTS):
            name = chance.choice("ab")
            if fault == "stop":
                await pair.ready()
                await asyncio.to_thread(pair.stop, name)
            elif fault == "pause":
                pair.workers[name].signal(signal.SIGSTOP)
                await load.goes_on(chance.randint(60, 140))  # about the session's length
                pair.workers[name].signal(signal.SIGCONT)
                continue
            else:
                await asyncio.to_thread(pair.kill, name)
            if fault == "wipe":
                pair.wipe(name)
            await load.goes_on(chance.randint(1, 100))
            pair.start(name)
            await load.goes_on(chance.randint(20, 100))
    await load.settled()


async def test_lost_state_and_lost_deltas_are_made_good(
    environ: dict[str, str], stack: Stack, load: Load, pair: Pair
) -> None:
    await load.more()
    await load.settled()
    for name in "ab":
        await asyncio.to_thread(pair.stop, name)
    # A changelog that was created again: what the local stores have is of the former one.
    await asyncio.to_thread(delete_topics, AdminClient({"bootstrap.servers": stack.bootstrap}), [BALANCES_CHANGELOG])
    await asyncio.to_thread(command, environ, "migrate")
    await load.more()
    pair.start("a")
    await load.settled()
    assert "nothing was recovered" in pair.log("a")
    await asyncio.to_thread(pair.kill, "a")
    await load.more()
    await eventually_async(stack.is_done, 30)
    await _emptied(stack, USAGE_DELTAS)
    pair.start("a")
    await load.more()
    await load.settled()
    assert "were removed before they were applied" in pair.log("a")


async def _emptied(stack: Stack, topic: str) -> None:
    """The topic as it is when its records are lost: it begins where it ends."""
    admin = AdminClient({"bootstrap.servers": stack.bootstrap})
    ends = await end_offsets(stack.bootstrap, topic, PARTITIONS)
    places = [TopicPartition(topic, number, end) for number, end in ends.items()]
    for future in admin.delete_records(places).values():
        await asyncio.to_thread(future.result, 30)
