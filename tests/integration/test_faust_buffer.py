"""What waits for an agent is bounded in bytes: a contract of ours with the pinned Faust, without a broker."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from runtime.settings import Settings, WorkerSettings
from streams.app import App, create_app, raw_topic

SOURCE, CHANGELOG = TP("source", 0), TP("changelog", 0)


@pytest.fixture
def app(tmp_path: Path) -> App:
    settings = Settings(worker=WorkerSettings(data_dir=str(tmp_path), buffer_max_bytes=1_000))
    return create_app(settings, "balances", store="memory://")


class Thread:
    """The consumer's thread: notes which partitions are asked for."""

    def __init__(self) -> None:
        self.asked: list[set[TP]] = []

    async def getmany(self, active: set[TP], timeout: float) -> dict[TP, Any]:
        self.asked.append(active)
        return {}


async def test_no_source_is_read_while_too_many_bytes_wait_for_the_agent(app: App) -> None:
    """Faust's own bound is 4,096 records: of our largest ones those are gigabytes."""
    consumer: Any = app.consumer
    source = raw_topic(app, SOURCE.topic, 1)
    app.topics.add(source)
    conductor: Any = app.topics
    conductor._acking_topics.add(source.get_topic_name())
    consumer._thread, consumer.assignment = Thread(), lambda: {SOURCE}
    await app.topics.on_partitions_assigned({SOURCE})

    async def fetched(*active: TP) -> list[set[TP]]:
        consumer._thread.asked.clear()
        assert await consumer._getmany(set(active), timeout=1.0) == {}
        found: list[set[TP]] = list(consumer._thread.asked)
        return found

    def wait(size: int) -> None:
        source.queue._queue.append(SimpleNamespace(message=SimpleNamespace(value=bytes(size))))

    wait(1_000)
    assert await fetched(SOURCE, CHANGELOG) == [{SOURCE, CHANGELOG}]
    wait(1)
    assert await fetched(SOURCE, CHANGELOG) == [{CHANGELOG}]
    assert await fetched(SOURCE) == []
    source.queue._queue.clear()
    assert await fetched(SOURCE) == [{SOURCE}]


async def test_a_source_of_which_too_much_waits_is_left_out_and_the_others_are_read(app: App) -> None:
    consumer: Any = app.consumer
    other, full = TP("source", 1), {SOURCE}
    consumer._thread, consumer.assignment = Thread(), lambda: {SOURCE, other}
    app.is_full = full.__contains__
    await consumer._getmany({SOURCE, other}, timeout=1.0)
    full.add(other)
    assert await consumer._getmany({SOURCE, other}, timeout=1.0) == {}
    full.clear()
    await consumer._getmany({SOURCE, other}, timeout=1.0)
    assert consumer._thread.asked == [{other}, {SOURCE, other}]
