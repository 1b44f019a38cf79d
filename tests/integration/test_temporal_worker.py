"""`meterstream temporal-worker` as a process: waits for Temporal, keeps the schedule, closes periods, stops cleanly."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest_asyncio
from temporalio.client import Client, ScheduleHandle, WorkflowExecutionStatus

from runtime.clock import SystemClock
from runtime.local.ports import free_ports
from runtime.settings import TemporalSettings
from stores.postgres.cuts import Cuts
from tests.support.closing import Books, books
from tests.support.waiting import eventually_async
from workflows.ids import CLOSING_SCHEDULE, ROLL_UP_SCHEDULE
from workflows.worker import connect

ROOT = Path(__file__).resolve().parents[2]
NAME = "temporal_worker"


@pytest_asyncio.fixture
async def made(postgres_url: str, clickhouse_url: str) -> AsyncIterator[Books]:
    async with books(postgres_url, clickhouse_url, NAME, as_of=SystemClock().now()) as found:
        yield found


@contextmanager
def worker(log: Path, settings: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, **{f"METERSTREAM_{name}": text for name, text in settings.items()}}
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "temporal-worker"], cwd=ROOT, env=environment, stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


async def answer(port: int, path: str) -> httpx.Response | None:
    async with httpx.AsyncClient() as client:
        try:
            return await client.get(f"http://127.0.0.1:{port}{path}")
        except httpx.TransportError:
            return None


async def ready(port: int) -> bool:
    found = await answer(port, "/readyz")
    return found is not None and found.status_code == 200


async def stopped(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return await asyncio.to_thread(process.wait, 20)


async def paused(schedule: ScheduleHandle) -> bool:
    return (await schedule.describe()).schedule.state.paused


async def raised(made: Books, cut: int) -> bool:
    return await Cuts(made.engine).current() >= cut


async def has_run(client: Client, schedule: str) -> bool:
    described = await client.get_schedule_handle(schedule).describe()
    started = [action.action for action in described.info.recent_actions]
    runs = [client.get_workflow_handle(one.workflow_id) for one in started if hasattr(one, "workflow_id")]
    return any([(await run.describe()).status == WorkflowExecutionStatus.COMPLETED for run in runs])


async def test_the_worker_closes_on_schedule_and_leaves_a_pause_to_people(
    made: Books, postgres_url: str, clickhouse_url: str, temporal_address: str, tmp_path: Path
) -> None:
    await made.subscribe("acme", datetime(2026, 1, 1, tzinfo=UTC))
    [port] = free_ports(1)
    settings = {
        "POSTGRES_URL": made.engine.url.set(drivername="postgresql").render_as_string(hide_password=False),
        "CLICKHOUSE_URL": clickhouse_url,
        "CLICKHOUSE_DATABASE": NAME,
        "TEMPORAL_ADDRESS": temporal_address,
        "TEMPORAL_WORKER_HEALTH_PORT": str(port),
        "CLOSING_SCHEDULE_INTERVAL_S": "1",
        "CLOSING_CUT_MIN_INTERVAL_S": "0",
        "CLOSING_CUT_INTERVAL_S": "1",
        "LEDGER_ROLL_UP_INTERVAL_S": "1",
    }
    log = tmp_path / "log"
    client = await connect(TemporalSettings(address=temporal_address))
    schedule = client.get_schedule_handle(CLOSING_SCHEDULE)
    with worker(log, {**settings, "CLOSING_SCHEDULE_PAUSED": "true"}) as process:
        await eventually_async(lambda: ready(port), within_s=20)
        assert await paused(schedule)
        assert not await made.invoices()
        # What is done every hour does not wait for the closing.
        begun = await Cuts(made.engine).current()
        await eventually_async(lambda: raised(made, begun + 2), within_s=20)
        await eventually_async(lambda: has_run(client, ROLL_UP_SCHEDULE), within_s=20)
        await schedule.unpause(note="a person")
        await eventually_async(made.invoices, within_s=20)
        shown = await answer(port, "/metrics")
        assert shown is not None
        assert "meterstream_closing_invoices_total" in shown.text
        assert await stopped(process) == 0, log.read_text()
    with worker(log, {**settings, "CLOSING_SCHEDULE_PAUSED": "true", "CLOSING_SCHEDULE_INTERVAL_S": "7"}) as process:
        await eventually_async(lambda: ready(port), within_s=20)
        found = (await schedule.describe()).schedule
        assert not found.state.paused
        assert [interval.every.total_seconds() for interval in found.spec.intervals] == [7]
        assert await stopped(process) == 0, log.read_text()
    assert "Traceback" not in log.read_text()


async def test_a_worker_without_temporal_waits_says_so_and_can_be_stopped(tmp_path: Path) -> None:
    port, nobody = free_ports(2)
    log = tmp_path / "log"
    settings = {
        "TEMPORAL_ADDRESS": f"127.0.0.1:{nobody}",
        "POSTGRES_URL": f"postgresql://nobody@127.0.0.1:{nobody}/none",
        "CLICKHOUSE_URL": f"http://127.0.0.1:{nobody}",
        "TEMPORAL_WORKER_HEALTH_PORT": str(port),
    }
    with worker(log, settings) as process:
        found = await eventually_async(lambda: answer(port, "/readyz"), within_s=20)
        assert isinstance(found, httpx.Response)
        assert found.status_code == 503
        assert found.json() == {"ready": False, "missing": ["temporal"], "degraded": ["postgres", "clickhouse"]}
        alive = await answer(port, "/healthz")
        assert alive is not None
        assert alive.status_code == 200
        await eventually_async(lambda: "waiting_for_service" in log.read_text(), within_s=10)
        assert await stopped(process) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
