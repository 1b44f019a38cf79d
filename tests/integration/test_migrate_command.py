"""`meterstream migrate` on real servers: from nothing to everything, and again with no change."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient

from cli.migrate import Report, lines, run
from runtime.settings import ClickhouseSettings, KafkaSettings, Secret, Settings
from stores.topics import wanted_topics
from tests.support.broker import delete_topics
from tests.support.database import database


@pytest.fixture(scope="module")
def settings(postgres_url: str, kafka_bootstrap: str, clickhouse_url: str) -> Iterator[Settings]:
    kafka = KafkaSettings(bootstrap=kafka_bootstrap)
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    ours = [topic.name for topic in wanted_topics(kafka)]
    delete_topics(admin, ours)
    with database(postgres_url, "test_migrate_command", migrated=False) as postgres:
        clickhouse = ClickhouseSettings(url=Secret(clickhouse_url))
        yield Settings(postgres=postgres, kafka=kafka, clickhouse=clickhouse)
    delete_topics(admin, ours)


def _named(report: Report) -> dict[str, list[str]]:
    return {part: [step["name"] for step in steps] for part, steps in report.items()}


async def test_everything_is_planned_then_made_then_unchanged(settings: Settings) -> None:
    planned = await run(settings, changes=False)
    assert {step["state"] for part in ("postgres", "topics") for step in planned[part]} == {"pending"}
    assert await run(settings, changes=False) == planned
    done = await run(settings, changes=True)
    assert _named(done) == _named(planned)
    assert {step["state"] for part in ("postgres", "topics") for step in done[part]} == {"done"}
    again = await run(settings, changes=True)
    # Of PostgreSQL's migrations the last one says where it stands.
    assert _named(again) == {**_named(done), "postgres": _named(done)["postgres"][-1:]}
    assert {step["state"] for steps in again.values() for step in steps} == {"unchanged"}
    assert lines(again) == ["postgres    unchanged", "clickhouse  unchanged", "topics      unchanged"]


async def test_settings_that_differ_from_what_is_there_are_refused_with_exit_code_2(settings: Settings) -> None:
    await run(settings, changes=True)
    refused = _command(settings, METERSTREAM_KAFKA_BALANCE_PARTITIONS="7")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "topic_differs: " in refused.stderr


def _command(settings: Settings, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "migrate"],
        env={
            **os.environ,
            "METERSTREAM_POSTGRES_URL": settings.postgres.url.reveal(),
            "METERSTREAM_KAFKA_BOOTSTRAP": settings.kafka.bootstrap,
            "METERSTREAM_CLICKHOUSE_URL": settings.clickhouse.url.reveal(),
            **more,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
