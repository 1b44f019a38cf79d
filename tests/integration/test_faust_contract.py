"""What we rely on in the pinned Faust: an upgrade that changes it must fail here, not in production."""

import asyncio
import contextlib
import functools
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from faust.types import TP
from faust.types.tuples import ConsumerMessage, FutureMessage
from mode.supervisors import CrashingSupervisor

from runtime.settings import Settings, WorkerSettings
from streams.app import PRODUCER_BUFFER_MESSAGES, App, create_app, table_options
from streams.balances_table import GreatestTable
from streams.tables import NotOwnedError, drain, is_current, require_current
from streams.transport import Consumer, Producer, Transport
from tests.support.faust_agent import PARTITIONS, TABLE, TOPICS
from tests.support.pipeline import Record, end_offsets, produce
from tests.support.servers import ROOT
from tests.support.waiting import eventually

CHANGELOG = f"meterstream-balances-{TABLE}-changelog"
PLACE = TP("a", 0)


@pytest.fixture
def app(tmp_path: Path) -> App:
    return create_app(Settings(worker=WorkerSettings(data_dir=str(tmp_path))), "balances", store="memory://")


@pytest.fixture(scope="module")
def topics(kafka_bootstrap: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    wanted = [
        *(NewTopic(topic, num_partitions=PARTITIONS, replication_factor=1) for topic in TOPICS.values()),
        NewTopic(CHANGELOG, num_partitions=PARTITIONS, replication_factor=1, config={"cleanup.policy": "compact"}),
    ]
    for future in admin.create_topics(wanted).values():
        future.result(30)


class Agent:
    """A process of tests/support/faust_agent.py."""

    def __init__(self, broker: str, directory: Path, mode: str) -> None:
        self._log = directory / "log"
        with self._log.open("ab") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.faust_agent", broker, str(directory), mode],
                cwd=ROOT,
                env={**os.environ},
                stdout=sink,
                stderr=sink,
            )

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def agents() -> Iterator[list[Agent]]:
    started: list[Agent] = []
    yield started
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait(20)


def seen(directory: Path) -> list[str]:
    path = directory / "seen"
    return path.read_text().split() if path.exists() else []


def test_the_version_is_the_one_that_was_measured() -> None:
    assert version("faust-streaming") == "0.15.3"
    assert version("aiokafka").startswith("0.14.")


def test_a_failed_agent_crashes_the_worker_instead_of_acknowledging_over_it(app: App) -> None:
    conf: Any = app.conf
    assert conf.agent_supervisor is CrashingSupervisor
    assert conf.stream_wait_empty is False
    assert conf.processing_guarantee.value == "at_least_once"
    assert conf.broker_commit_interval <= 1
    assert conf.topic_allow_declare is False
    assert conf.web_enabled is False


async def test_the_flow_stops_when_a_rebalance_is_complete(app: App) -> None:
    stopped: list[bool] = []
    app.consumer.stop_flow = lambda: stopped.append(True)  # type: ignore[method-assign]
    await app.on_rebalance_complete.send()
    assert stopped == [True]


async def test_full_buffers_are_forgotten_with_an_assignment(app: App) -> None:
    consumer: Any = app.consumer
    consumer._buffered_partitions.add(PLACE)
    await app.on_partitions_assigned.send({PLACE})
    assert consumer._buffered_partitions == set()


async def test_a_draining_buffer_does_not_wake_a_paused_partition(app: App) -> None:
    consumer: Any = app.consumer
    assert isinstance(consumer, Consumer)
    for paused in (True, False):
        consumer._active_partitions, consumer._paused_partitions = set(), {PLACE} if paused else set()
        consumer._buffered_partitions = {PLACE}
        consumer.on_buffer_drop(PLACE)
        assert (PLACE in consumer._active_partitions) is not paused
        assert consumer._buffered_partitions == set()


async def test_the_producer_is_idempotent_outside_of_transactions(app: App) -> None:
    producer: Any = app.producer
    assert isinstance(producer, Producer)
    assert isinstance(producer.transport, Transport)
    assert producer._settings_extra() == {"acks": "all", "enable_idempotence": True}
    assert producer.buffer.max_messages != PRODUCER_BUFFER_MESSAGES  # set when the app starts


async def test_seeking_asks_the_role_where_it_stands(app: App) -> None:
    consumer: Any = app.consumer
    sought: list[Any] = []

    async def positions(assignment: set[TP]) -> dict[TP, int]:
        return dict.fromkeys(assignment, 41)

    async def seek_wait(offsets: dict[TP, int]) -> None:
        sought.append(offsets)

    app.positions = positions
    consumer.assignment = lambda: {PLACE}
    consumer.seek_wait = seek_wait
    await consumer.perform_seek()
    assert sought == [{PLACE: 41}]
    assert (consumer._read_offset[PLACE], consumer._committed_offset[PLACE]) == (41, 41)


def test_what_failed_is_delivered_again_and_nothing_after_it_is_lost(
    kafka_bootstrap: str, topics: None, agents: list[Agent], tmp_path: Path
) -> None:
    """noack, acknowledgements by hand and a crash: the loop of streams/consume.py, with a partial as the agent."""
    asyncio.run(produce(kafka_bootstrap, TOPICS["plain"], [(0, b"v%d" % number, []) for number in range(8)]))
    (tmp_path / "fail").write_text("v3")
    agents.append(Agent(kafka_bootstrap, tmp_path, "plain"))
    assert agents[0].process.wait(60) != 0
    before = seen(tmp_path)
    assert "v3" not in before
    (tmp_path / "fail").unlink()
    agents.append(Agent(kafka_bootstrap, tmp_path, "plain"))
    assert eventually(lambda: set(seen(tmp_path)) == {f"v{number}" for number in range(8)}, 60)
    after = seen(tmp_path)[len(before) :]
    assert after == sorted(after)
    assert agents[1].stop() == 0


def test_a_guarded_table_counts_exactly_through_kills(
    kafka_bootstrap: str, topics: None, agents: list[Agent], tmp_path: Path
) -> None:
    """Table writes in a batch under `bind_event`, drained before the acknowledgement, guarded by offset."""
    sent = 600
    records: list[Record] = [(number % PARTITIONS, b"t%d" % number, []) for number in range(sent)]
    for at in range(0, sent, 200):
        asyncio.run(produce(kafka_bootstrap, TOPICS["table"], records[at : at + 200]))
        agents.append(Agent(kafka_bootstrap, tmp_path, "table"))
        eventually(functools.partial(_has_seen, tmp_path, at + 100), 60)
        agents[-1].process.kill()
        agents[-1].process.wait(20)
    agents.append(Agent(kafka_bootstrap, tmp_path, "table"))
    eventually(functools.partial(_has_seen, tmp_path, sent), 90)
    asyncio.run(produce(kafka_bootstrap, TOPICS["table"], [(number, b"t-last", []) for number in range(PARTITIONS)]))
    _counts_all(kafka_bootstrap, tmp_path)
    assert agents[-1].stop() == 0


def test_no_record_is_lost_or_doubled_while_workers_come_and_go(
    kafka_bootstrap: str, topics: None, agents: list[Agent], tmp_path: Path
) -> None:
    """The assignment race under load: a worker is added, one is killed, one comes back, one leaves.

    Any gap ends a worker with an error.
    """
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with _load(kafka_bootstrap):
        agents.append(Agent(kafka_bootstrap, first, "table"))
        eventually(lambda: len(seen(first)) > 200, 60)
        agents.append(Agent(kafka_bootstrap, second, "table"))
        _both_go_on(first, second)
        agents[0].process.kill()
        agents[0].process.wait(20)
        _takes_all_over(second)
        agents.append(Agent(kafka_bootstrap, first, "table"))
        _both_go_on(first, second)
        assert agents[1].stop() == 0
        _takes_all_over(first)
    _counts_all(kafka_bootstrap, first)
    assert agents[2].stop() == 0


@contextlib.contextmanager
def _load(broker: str) -> Iterator[None]:
    """Records for every partition all the time."""
    stopping = threading.Event()

    def send() -> None:
        for number in itertools.count():
            if stopping.is_set():
                return
            values: list[Record] = [(place, b"t%d-%d" % (number, place), []) for place in range(PARTITIONS)]
            asyncio.run(produce(broker, TOPICS["table"], values * 5))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        stopping.set()
        sender.join()


def _both_go_on(first: Path, second: Path) -> None:
    before = len(seen(first)), len(seen(second))
    eventually(lambda: len(seen(first)) > before[0] + 100 and len(seen(second)) > before[1] + 100, 60)


def _takes_all_over(directory: Path) -> None:
    before = len(seen(directory))
    every = {str(place) for place in range(PARTITIONS)}
    eventually(lambda: {one.rpartition("-")[2] for one in seen(directory)[before:]} >= every, 60)


def _counts_all(broker: str, directory: Path) -> None:
    """One worker has everything by now, each record once."""
    ends = asyncio.run(end_offsets(broker, TOPICS["table"], PARTITIONS))
    wanted = " ".join(f"{number}={end}" for number, end in sorted(ends.items()))
    eventually(lambda: (directory / "counts").read_text() == wanted, 60)


def _has_seen(directory: Path, count: int) -> bool:
    return len({one for one in seen(directory) if one[0] == "t"}) >= count


async def test_without_a_commit_reading_begins_at_the_beginning(app: App) -> None:
    """Faust itself leaves such a partition where it was fetched to, past what it dropped at the assignment."""
    consumer: Any = app.consumer
    sought: list[Any] = []

    async def seek_to_committed() -> dict[TP, int | None]:
        return {PLACE: None, TP("a", 1): 7, TP("b", 0): None}

    async def earliest_offsets(*places: TP) -> dict[TP, int]:
        return dict.fromkeys(places, 3)

    async def seek_wait(offsets: dict[TP, int]) -> None:
        sought.append(offsets)

    consumer._thread = SimpleNamespace(seek_to_committed=seek_to_committed)
    consumer.assignment = lambda: {PLACE}
    consumer.earliest_offsets, consumer.seek_wait = earliest_offsets, seek_wait
    consumer._is_changelog_tp = lambda tp: tp.topic == "b"
    await consumer.perform_seek()
    assert sought == [{PLACE: 3}]
    assert (consumer.committed(PLACE), consumer.committed(TP("a", 1))) == (None, 7)


class _Event:
    """What the table asks of an event, in generation 1 of the group."""

    def __init__(self, message: ConsumerMessage) -> None:
        self.message = message
        self.app = SimpleNamespace(consumer_generation_id=1)


def _message(partition: int, offset: int, key: bytes, version: int, generation: int = 0) -> Any:
    place = TP(CHANGELOG, partition)
    value = b'{"version":[%d,0],"of":%d}' % (version, offset)
    message = ConsumerMessage(
        CHANGELOG, partition, offset, 0.0, 0, [], key, value, None, 0, 0, place, generation_id=generation
    )
    return _Event(message)


@pytest.fixture
def stored(tmp_path: Path) -> GreatestTable:
    """A table on a real local store."""
    app = create_app(Settings(worker=WorkerSettings(data_dir=str(tmp_path))), "balances")
    return GreatestTable(
        app,
        name=TABLE,
        partitions=2,
        key_type=bytes,
        value_type=bytes,
        options=table_options(),
        beacon=app.tables.beacon,
    )


def test_a_recovery_applies_changelog_records_through_the_table_and_keeps_the_greatest(stored: GreatestTable) -> None:
    place = TP(CHANGELOG, 1)
    stored.apply_changelog_batch([_message(1, 5, b"a", 3), _message(1, 6, b"b", 1), _message(1, 7, b"a", 2)])
    stored.apply_changelog_batch([_message(1, 8, b"b", 0)])
    found = dict(stored.items_of(1))
    assert {key: msgspec.json.decode(value)["of"] for key, value in found.items()} == {b"a": 5, b"b": 6}
    assert stored.data.persisted_offset(place) == 8
    assert [key for key, _ in stored.items_of(1, b"a\0")] == [b"b"]
    assert list(stored.items_of(0)) == []


def test_the_local_store_never_says_it_has_what_another_owner_wrote(stored: GreatestTable) -> None:
    """Faust calls back with the place of each own record. One beyond another's moves the mark once the hole was seen."""
    place = TP(CHANGELOG, 1)

    def sent(offset: int) -> int | None:
        stored._on_changelog_sent(SimpleNamespace(result=lambda: SimpleNamespace(topic_partition=place, offset=offset)))
        return stored.data.persisted_offset(place)

    assert [sent(offset) for offset in (0, 1, 5, 6)] == [0, 1, 1, 1]
    assert stored.holes[1] == [(2, 4)]
    stored.holes[1].clear()
    assert sent(7) == 7
    sent(9)
    stored.apply_changelog_batch([_message(1, 10, b"a", 3)])
    assert (stored.data.persisted_offset(place), stored.holes[1]) == (10, [])


def test_an_event_knows_the_generation_it_was_fetched_in() -> None:
    assert is_current(_message(0, 0, b"a", 0, generation=1))
    with pytest.raises(NotOwnedError):
        require_current(_message(0, 0, b"a", 0, generation=0))


async def test_a_changelog_record_that_was_refused_is_not_passed_over(app: App) -> None:
    """Neither Faust's flush nor aiokafka's says so: the futures of the records do."""
    refused = FutureMessage(SimpleNamespace(message=None))  # type: ignore[arg-type]
    refused.set_exception(OSError("refused"))

    async def flush() -> None:
        return None

    producer = SimpleNamespace(buffer=SimpleNamespace(size=0), flush=flush)
    with pytest.raises(OSError, match="refused"):
        await drain(SimpleNamespace(producer=producer), [refused])


def test_recovery_relies_on_no_standby_and_starts_ahead_of_its_changelog(app: App) -> None:
    conf: Any = app.conf
    assert conf.table_standby_replicas == 0
    assert conf.recovery_consistency_check is False
    assert conf.consumer_auto_offset_reset == "earliest"
