"""A store restored from an older backup is noticed, refused, and mended by `meterstream repair` to the very same rows."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from schemas.meters import Meter
from schemas.topics import CATALOG_CHANGED, USAGE_RAW
from tests.support.ingest import Stack, catalog, connected, deltas_of, event, headers, records_of
from tests.support.pipeline import command, produce, settings_of, worker
from tests.support.servers import ROOT, running
from tests.support.waiting import eventually, eventually_async

METERS = [
    Meter(id="met_calls", key="calls", event_types=("call",), aggregation="count", dimensions=("region",)),
    Meter(id="met_bytes", key="bytes", event_types=("call",), aggregation="sum", value_property="bytes"),
    Meter(id="met_users", key="users", event_types=("call",), aggregation="unique_count", value_property="user"),
]
LEDGER = ("ledger_partitions", "ledger_blocks", "usage_cut", "usage_cuts")
EVENTS = "SELECT * EXCEPT (insert_before, first_offset) FROM events ORDER BY partition, `offset`, `index`"
OUTCOMES = "SELECT partition, `offset`, `index` FROM {table} FINAL ORDER BY ALL"
WINDOWS = (
    "SELECT tenant, environment, meter, generation, customer, minute, dimensions, cut, sum(matches), sum(values),"
    " sum(total), min(lowest), max(highest), max(latest), uniqExactMerge(uniques) FROM usage_windows GROUP BY ALL ORDER BY ALL"
)
BLOCKS = (
    "SELECT partition, first_offset, last_offset, state, stored, duplicate, rejected, cut, version FROM ledger_blocks"
)


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with running("kafka", "postgres", "clickhouse") as endpoints:
        found = settings_of(endpoints, tmp_path_factory.mktemp("restored"))
        command(found, "migrate")
        yield found


@pytest.fixture
async def stack(environ: dict[str, str]) -> AsyncIterator[Stack]:
    async with connected(environ) as found:
        yield found


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cli.main", "repair", "--json", *arguments]


def repair(environ: dict[str, str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report of `meterstream repair`."""
    done = subprocess.run(
        _command(*arguments),
        cwd=ROOT,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        check=False,
        timeout=120,
    )
    return done.returncode, json.loads(done.stdout)


def kinds(report: dict[str, Any]) -> set[tuple[str, str]]:
    return {(finding["kind"], finding["state"]) for finding in report["findings"]}


async def count_all(environ: dict[str, str], stack: Stack, numbers: range, log: Path) -> None:
    """Send events with these numbers, twice each and some garbage, and let a worker count them."""
    events = [event(number) for number in numbers]
    garbage = [(number % 4, b"not json", headers(1)) for number in range(3)]
    await produce(stack.bootstrap, USAGE_RAW, [*records_of(events, 1, seed=numbers.start), *garbage])
    with worker(environ, "ingest", log) as running_worker:
        await eventually_async(stack.is_done, 90)
        # Deltas follow what is done. Behind the last of them a restored ledger learns of a block by its rows alone, and of
        # copies at its end from the worker that reads them again.
        await eventually_async(stack.is_told, 90)
        assert running_worker.stop() == 0


async def state_of(stack: Stack) -> dict[str, Any]:
    """Everything that must be the same after a repair."""
    with psycopg.connect(stack.settings.postgres.url.reveal()) as connection:
        blocks = connection.execute(f"{BLOCKS} WHERE state <> 'empty'").fetchall()
    return {
        "events": await stack.rows(EVENTS),
        "windows": await stack.rows(WINDOWS),
        "duplicates": await stack.rows(OUTCOMES.format(table="event_duplicates")),
        "rejected": await stack.rows(OUTCOMES.format(table="events_rejected")),
        "blocks": sorted(blocks),
    }


def refused(environ: dict[str, str], log: Path, reason: str) -> None:
    """A worker does not go on, and says why and what to do."""
    with worker(environ, "ingest", log) as refusing:
        eventually(lambda: all(text in log.read_text() for text in (reason, "meterstream repair")), 60)
        assert refusing.exit_code is None
        assert not refusing.is_ready()


async def delete(stack: Stack, table: str, condition: str) -> None:
    await stack.clickhouse.command(f"ALTER TABLE {table} DELETE WHERE {condition} SETTINGS mutations_sync = 2")


async def test_a_restored_clickhouse_is_refused_until_its_blocks_were_made_again(
    environ: dict[str, str], stack: Stack, tmp_path: Path
) -> None:
    await produce(stack.bootstrap, CATALOG_CHANGED, [(0, catalog(1, METERS), [])], key=b"1")
    with psycopg.connect(stack.settings.postgres.url.reveal()) as connection:
        connection.execute("UPDATE catalog_head SET version = 1")
    await count_all(environ, stack, range(2500), tmp_path / "first.log")
    await stack.clickhouse.command("CREATE TABLE windows_then AS usage_windows")
    await stack.clickhouse.command("INSERT INTO windows_then SELECT * FROM usage_windows")
    then = await stack.ledger.done_vector(stack.topic_id)
    await count_all(environ, stack, range(2500, 4000), tmp_path / "second.log")
    whole = await state_of(stack)
    assert repair(environ) == (0, {"partitions": [0, 1, 2, 3], "findings": []})

    # Everything as it was after the first events: what PostgreSQL has counted since is gone.
    later = " OR ".join(f"(partition = {number} AND `offset` > {offset})" for number, offset in then.items())
    for table in ("events", "event_duplicates", "events_rejected"):
        await delete(stack, table, later)
    await stack.clickhouse.command("TRUNCATE TABLE usage_windows")
    await stack.clickhouse.command("INSERT INTO usage_windows SELECT * FROM windows_then")
    refused(environ, tmp_path / "refused.log", "ClickHouse was restored")
    code, report = repair(environ, "--dry-run")
    assert (code, kinds(report)) == (1, {("events", "found")})
    code, report = repair(environ)
    assert (code, kinds(report)) == (0, {("events", "mended"), ("windows", "mended")})
    assert await state_of(stack) == whole

    # Rows of one block lost, its windows not: nothing may count there twice.
    await delete(stack, "events", f"partition = 1 AND `offset` > {then[1]} AND `index` % 2 = 0")
    code, report = repair(environ, "--partition", "1")
    assert (code, kinds(report)) == (0, {("events", "mended")})
    assert await state_of(stack) == whole

    # Windows lost by themselves.
    await delete(stack, "usage_windows", "cityHash64(minute) % 3 = 0")
    refused(environ, tmp_path / "windows.log", "of the windows it counted in")
    code, report = repair(environ)
    assert (code, kinds(report)) == (0, {("windows", "mended")})
    assert await state_of(stack) == whole

    await count_all(environ, stack, range(4000, 4200), tmp_path / "third.log")
    assert repair(environ) == (0, {"partitions": [0, 1, 2, 3], "findings": []})
    assert await stack.count("events") == 4200


async def test_a_restored_postgresql_is_refused_until_its_ledger_was_caught_up(
    environ: dict[str, str], stack: Stack, tmp_path: Path
) -> None:
    url = stack.settings.postgres.url.reveal()
    with psycopg.connect(url) as connection:
        for table in LEDGER:
            connection.execute(f"CREATE TABLE then_{table} AS SELECT * FROM {table}")
        connection.execute(
            "UPDATE usage_cut SET cut = cut + 1"
        )  # later blocks carry a cut that the backup does not know
    await count_all(environ, stack, range(4200, 6000), tmp_path / "first.log")
    whole = await state_of(stack)
    deltas = await deltas_of(stack)

    with psycopg.connect(url) as connection:
        for table in LEDGER:
            connection.execute(f"DELETE FROM {table}")
            connection.execute(f"INSERT INTO {table} SELECT * FROM then_{table}")
    refused(environ, tmp_path / "refused.log", "PostgreSQL was restored")
    code, report = repair(environ, "--dry-run")
    assert (code, kinds(report)) == (1, {("ledger", "found")})
    code, report = repair(environ)
    assert (code, kinds(report)) == (0, {("ledger", "mended")})
    assert await state_of(stack) == whole
    assert [(one.first_offset, one.last_offset) for one in await deltas_of(stack)] == [
        (one.first_offset, one.last_offset) for one in deltas
    ]

    await count_all(environ, stack, range(6000, 6300), tmp_path / "second.log")
    assert await stack.count("events") == 6300
    assert repair(environ) == (0, {"partitions": [0, 1, 2, 3], "findings": []})


async def test_a_repair_beside_a_running_worker_and_one_that_is_killed_miscount_nothing(
    environ: dict[str, str], stack: Stack, tmp_path: Path
) -> None:
    log = tmp_path / "beside.log"
    with worker(environ, "ingest", log) as beside:
        eventually(beside.is_ready, 60)
        await produce(
            stack.bootstrap, USAGE_RAW, records_of([event(number) for number in range(6300, 7500)], 1, seed=1)
        )
        assert repair(environ) == (0, {"partitions": [0, 1, 2, 3], "findings": []})
        # It finds itself fenced at its next block, and exits to be started again.
        await produce(
            stack.bootstrap, USAGE_RAW, records_of([event(number) for number in range(7500, 8000)], 1, seed=2)
        )
        eventually(lambda: beside.exit_code is not None, 60)
    await count_all(environ, stack, range(8000, 8200), tmp_path / "after.log")
    assert await stack.count("events") == 8200
    whole = await state_of(stack)

    await delete(stack, "usage_windows", "cityHash64(minute) % 3 = 0")
    _kill_a_repair(environ, stack)
    code, _ = repair(environ)
    assert code == 0
    assert await state_of(stack) == whole
    assert repair(environ) == (0, {"partitions": [0, 1, 2, 3], "findings": []})


def _kill_a_repair(environ: dict[str, str], stack: Stack) -> None:
    """Once it has taken a partition over."""
    before = _epochs(stack)
    killed = subprocess.Popen(_command(), cwd=ROOT, env={**os.environ, **environ}, stdout=subprocess.DEVNULL)
    eventually(lambda: _epochs(stack) != before, 60)
    killed.kill()
    killed.wait()


def _epochs(stack: Stack) -> list[Any]:
    with psycopg.connect(stack.settings.postgres.url.reveal()) as connection:
        return connection.execute("SELECT partition, epoch FROM ledger_partitions ORDER BY partition").fetchall()


async def test_what_cannot_be_mended_is_said_and_left_alone(environ: dict[str, str], stack: Stack) -> None:
    [(minute,)] = await stack.rows("SELECT max(minute) FROM usage_windows")
    await stack.clickhouse.command(
        "INSERT INTO usage_windows SELECT * FROM usage_windows ORDER BY minute DESC LIMIT 1"  # counted twice
    )
    whole = await state_of(stack)
    day = f"{minute:%Y-%m-%d}"
    code, report = repair(environ, "--windows", "--from", "2000-01-01T00:00:00Z", "--to", "2000-01-02T00:00:00Z")
    assert (code, report["findings"]) == (0, [])
    code, report = repair(environ, "--windows", "--from", f"{day}T00:00:00Z", "--to", f"{day}T23:59:00Z")
    assert (code, kinds(report)) == (1, {("windows", "not_mendable")})
    with psycopg.connect(stack.settings.postgres.url.reveal()) as connection:
        connection.execute("UPDATE catalog_head SET version = 0")
    code, report = repair(environ)
    assert (code, kinds(report)) == (1, {("catalog", "not_mendable")})
    assert await state_of(stack) == whole
