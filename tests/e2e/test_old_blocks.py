"""Blocks whose tokens may be forgotten: whatever of them is there already, they count once (protocol 1)."""

import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from domain.catalog import CatalogLog
from schemas.meters import Meter
from schemas.topics import CATALOG_CHANGED, USAGE_RAW
from stores.clickhouse.blocks import insert_block
from stores.clickhouse.window_completion import WindowScope, compare_windows
from tests.support.begun import begin_block
from tests.support.ingest import (
    NOW,
    Stack,
    array,
    catalog,
    catalog_version,
    connected,
    deltas_of,
    event,
    headers,
    home,
)
from tests.support.pipeline import Record, command, produce, settings_of, worker
from tests.support.servers import running
from tests.support.waiting import eventually_async

METERS = [
    Meter(id="met_calls", key="calls", event_types=("call",), aggregation="count", dimensions=("region",)),
    Meter(id="met_bytes", key="bytes", event_types=("call",), aggregation="sum", value_property="bytes"),
]
DEADLINE_S = 4


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with running("kafka", "postgres", "clickhouse") as endpoints:
        found = settings_of(
            endpoints,
            tmp_path_factory.mktemp("old"),
            METERSTREAM_INGEST_INSERT_DEADLINE_S=str(DEADLINE_S),
            METERSTREAM_INGEST_CLOCK_SKEW_S="0.5",
            METERSTREAM_INGEST_REFUSED_RETRY_S="2",
        )
        command(found, "migrate")
        yield found


@pytest.fixture
async def stack(environ: dict[str, str]) -> AsyncIterator[Stack]:
    async with connected(environ) as found:
        yield found


def records(first: int, last: int) -> list[Record]:
    """Events of all partitions in the same minutes, of the same customers: they share windows."""
    return [(home(one), array([one]), headers(1)) for one in (event(number) for number in range(first, last))]


async def test_what_is_there_of_an_old_block_is_kept_and_the_rest_is_added(
    environ: dict[str, str], stack: Stack, tmp_path: Path
) -> None:
    await produce(stack.bootstrap, CATALOG_CHANGED, [(0, catalog(1, METERS), [])], key=b"1")
    with psycopg.connect(stack.settings.postgres.url.reveal()) as connection:
        connection.execute("UPDATE catalog_head SET version = 1")
    await produce(stack.bootstrap, USAGE_RAW, records(0, 1200))
    await begin(stack, 3, tmp_path, inserts=True)
    await stack.clickhouse.command(
        "ALTER TABLE usage_windows DELETE WHERE cityHash64(minute) % 2 = 0 SETTINGS mutations_sync = 2"
    )
    await begin(stack, 1, tmp_path, inserts=True)
    await stack.clickhouse.command("DETACH TABLE usage_windows_view")  # the server died before it wrote windows
    await begin(stack, 2, tmp_path, inserts=True)
    await stack.clickhouse.command("ATTACH TABLE usage_windows_view")
    await begin(stack, 0, tmp_path, inserts=False)
    age(stack)
    assert (await difference(stack)).short > 0

    with worker(environ, "ingest", tmp_path / "worker.log") as running_worker:
        await eventually_async(stack.is_done, 60)
        await eventually_async(running_worker.is_ready, 20)
        assert running_worker.stop() == 0
    assert await stack.count("events") == 1200
    assert (await difference(stack)).is_none
    assert (await stack.rows("SELECT sum(matches) FROM usage_windows WHERE meter = 'met_calls'"))[0][0] == 1200
    told = [change for deltas in await deltas_of(stack) for change in deltas.changes if change.meter_id == "met_calls"]
    assert sum(change.matches for change in told) == sum(event(number).customer < "c5" for number in range(1200))


async def test_a_partition_that_counts_twice_is_refused_and_the_others_go_on(
    environ: dict[str, str], stack: Stack, tmp_path: Path
) -> None:
    await produce(stack.bootstrap, USAGE_RAW, records(1200, 1600))
    await begin(stack, 0, tmp_path, inserts=True)
    await stack.clickhouse.command("INSERT INTO usage_windows SELECT * FROM usage_windows")
    age(stack)
    log = tmp_path / "worker.log"
    with worker(environ, "ingest", log) as running_worker:

        async def others_are_done() -> bool:
            [(counted,)] = await stack.rows("SELECT count() FROM events WHERE partition > 0")
            return bool(counted == sum(home(event(number)) > 0 for number in range(1600)))

        await eventually_async(others_are_done, 60)
        stopped = readiness(running_worker.port)["stopped"]
        assert list(stopped) == ["usage.raw/0"]
        assert "windows count more than events" in stopped["usage.raw/0"]

        # What a person does (docs/runbook.md): the windows go, and are built from `events`.
        await stack.clickhouse.command("TRUNCATE TABLE usage_windows")
        command(environ, "repair")
        await eventually_async(lambda: running_worker.exit_code is not None, 30)  # fenced by the repair
    with worker(environ, "ingest", log) as running_worker:
        await eventually_async(running_worker.is_ready, 40)
        await eventually_async(stack.is_done, 60)
        assert running_worker.stop() == 0
    assert await stack.count("events") == 1600
    assert (await difference(stack)).is_none


def readiness(port: int) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            body = answer.read()
    except urllib.error.HTTPError as refused:
        body = refused.read()
    return dict(json.loads(body))


async def begin(stack: Stack, number: int, directory: Path, *, inserts: bool) -> None:
    """What a worker that died had done of the next block of a partition."""
    log = CatalogLog()
    log.append(catalog_version(1, METERS))
    prepared, opened = await begin_block(stack, number, 1, log.at(1), directory)
    if inserts:
        await insert_block(
            stack.clickhouse,
            prepared.batch,
            token=f"forgotten since {number}",
            cut=opened.cut,
            insert_before=opened.insert_before,
            deadline_s=30,
        )


def age(stack: Stack) -> None:
    """An hour passes for the open blocks, but one deadline lies ahead still: somebody renewed it a moment ago."""
    with psycopg.connect(stack.settings.postgres.url.reveal()) as connection:
        connection.execute(
            "UPDATE ledger_blocks SET intent_at = now() - interval '1 hour', insert_before = now() - interval '1 hour'"
            " WHERE state = 'intent'"
        )
        connection.execute(
            "UPDATE ledger_blocks SET insert_before = now() + interval '3 seconds' WHERE state = 'intent' AND partition = 1"
        )


async def difference(stack: Stack) -> Any:
    scope = WindowScope(start=NOW - timedelta(days=40), end=NOW + timedelta(days=1), cut=1 << 40, below=True)
    return await compare_windows(stack.clickhouse, scope, within_s=30)
