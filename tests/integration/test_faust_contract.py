"""What we rely on in the pinned Faust: an upgrade that changes it must fail here, not in production."""

import asyncio
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from faust.types import TP
from mode.supervisors import CrashingSupervisor

from runtime.settings import Settings, WorkerSettings
from streams.app import PRODUCER_BUFFER_MESSAGES, App, create_app
from streams.transport import Consumer, Producer, Transport
from tests.support.faust_agent import PARTITIONS, TABLE, TOPIC
from tests.support.pipeline import Record, produce
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
        NewTopic(TOPIC, num_partitions=PARTITIONS, replication_factor=1),
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
    asyncio.run(produce(kafka_bootstrap, TOPIC, [(0, b"v%d" % number, []) for number in range(8)]))
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
        asyncio.run(produce(kafka_bootstrap, TOPIC, records[at : at + 200]))
        agents.append(Agent(kafka_bootstrap, tmp_path, "table"))
        eventually(functools.partial(_has_seen, tmp_path, at + 100), 60)
        agents[-1].process.kill()
        agents[-1].process.wait(20)
    agents.append(Agent(kafka_bootstrap, tmp_path, "table"))
    eventually(functools.partial(_has_seen, tmp_path, sent), 90)
    asyncio.run(produce(kafka_bootstrap, TOPIC, [(0, b"t-last", []), (1, b"t-last", [])]))
    values = sent + 2
    eventually(lambda: _counted(tmp_path) >= values, 30)
    assert agents[-1].stop() == 0
    assert _counted(tmp_path) in {values, values + 8}  # the eight values of the test before, where it ran


def _has_seen(directory: Path, count: int) -> bool:
    return len({one for one in seen(directory) if one[0] == "t"}) >= count


def _counted(directory: Path) -> int:
    path = directory / "counts"
    if not path.exists():
        return 0
    return sum(int(part.split("=")[1]) for part in path.read_text().split())
