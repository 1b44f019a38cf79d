"""A worker process: one role, without Faust's command line. Exits 0 when told to stop, otherwise non-zero."""

import asyncio
import functools
import importlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, cast

import faust
import structlog
import uvloop
from faust.types import TP
from mode import Service

from runtime import garbage
from runtime.clock import Clock
from runtime.health import Health as StartingHealth
from runtime.readiness import Part, Readiness
from runtime.settings import Settings
from schemas.topics import USAGE_RAW
from stores.clickhouse.blocks import schema_differences
from stores.clickhouse.tokens import check_token_windows, token_windows
from stores.log_ends import LogEnds
from stores.rocks.filter import DuplicateFilter
from stores.rocks.memory import FilterMemory, allow_open_files
from stores.topics import checked_topic_ids
from streams import ingest, notifications
from streams.app import App, Role, create_app
from streams.clocks import check_clocks, check_deadlines
from streams.deps import WorkerDeps, close, wire
from streams.health import DEFAULT_PORTS, Health
from streams.ingest_deps import IngestDeps
from streams.log_reader import LogReader
from streams.retry import until_available
from streams.transport import Consumer

# What a filter has open besides its tables, and a worker besides its filters.
FILES_BESIDE = 8
FILES_OF_A_WORKER = 256
# A block is a hundred thousand live objects without a cycle: looking at them again and again took half the time.
COLLECTOR_YOUNG = 200_000

_log = structlog.get_logger(__name__)


class SchemaDiffersError(Exception):
    """`events` is not the table that blocks are encoded for."""


def run_worker(settings: Settings, role: Role, clock: Clock) -> NoReturn:
    """Run until SIGTERM or SIGINT (exit code 0) or a failure (1). A clean stop takes a few seconds at most."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app = create_app(settings, role, loop=loop)
    deps = loop.run_until_complete(_wire(settings, clock))
    port = settings.worker.health_port or DEFAULT_PORTS[role]
    topic_id = loop.run_until_complete(_prepared(deps, role, port))
    cleanups: list[Callable[[], Any]] = [functools.partial(close, deps)]
    if role == "ingest":
        kafka = settings.kafka
        # On a connection of its own: behind a fetch that waits for records an answer takes a second and a half. Asked anew
        # each time, since `as_of` says that the end was asked for then (protocol 26).
        ends = LogEnds(kafka, USAGE_RAW, kafka.raw_partitions, within_s=kafka.request_timeout_s, kept_s=0.0)
        cleanups.insert(0, ends.close)
        cleanups.insert(0, ingest.register(app, _ingest_deps(app, deps, topic_id, ends)).close)
    elif role == "notifications":
        notifications.register(app, deps)
    else:
        balances = importlib.import_module("streams.balances")  # its libraries are loaded by its role alone
        loop.run_until_complete(balances.check_local_state(app, deps))
        balances.register(app, deps)
    health = Health(
        app,
        host=settings.worker.health_host,
        port=port,
        # Up to the budget a step retries in place, and then crashes by itself; this is for what hangs without knowing.
        stalled_after_s=settings.worker.retry_budget_s + settings.worker.stall_margin_s,
        recovery_max_s=settings.worker.recovery_max_s,
        loop=loop,
    )
    resources = Resources(deps, cleanups, loop=loop)
    worker = Worker(app, resources, health, stop_within_s=settings.worker.stop_within_s, loop=loop)
    garbage.settle(COLLECTOR_YOUNG)
    worker.execute_from_commandline()


class Worker(faust.Worker):
    """Faust's worker with our logging, and an end to waiting for a stop that does not come."""

    def __init__(self, app: App, *services: Service, stop_within_s: float, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            app, *services, loop=loop, quiet=True, override_logging=False, redirect_stdouts=False, workdir=Path.cwd()
        )
        self.spinner = None
        self._stop_within_s = stop_within_s

    def _on_sigterm(self) -> None:
        _exit_at_last(0, self._stop_within_s)
        super()._on_sigterm()

    def _on_sigint(self) -> None:
        _exit_at_last(0, self._stop_within_s)
        super()._on_sigint()

    def on_worker_shutdown(self) -> None:
        """Also the way down after a crash: whatever hangs then must not keep the partitions."""
        if self.crash_reason is not None:
            _exit_at_last(1, self._stop_within_s)
        super().on_worker_shutdown()


class Resources(Service):
    """Opens and closes what the agents use: started before the app, stopped after it."""

    def __init__(self, deps: WorkerDeps, cleanups: list[Callable[[], Any]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._deps = deps
        self._cleanups = cleanups

    async def on_start(self) -> None:
        await self._deps.catalog.start()

    async def on_stop(self) -> None:
        for cleanup in self._cleanups:
            await cleanup()


async def _wire(settings: Settings, clock: Clock) -> WorkerDeps:
    return wire(settings, clock)


async def _prepared(deps: WorkerDeps, role: Role, port: int) -> str:
    """Waits for the services that are needed to begin, for the retry budget; "" for a role that checks no store.

    Faust itself does not wait for the log: started without it a worker would end within a second, again and again.
    """
    worker = deps.settings.worker
    async with StartingHealth(_STARTING).serving(worker.health_host, port):
        await until_available(deps.producer.start, worker.retry_budget_s, step="start")
        return await _check_stores(deps) if role == "ingest" else ""


async def _not_yet() -> bool:
    return False


_STARTING = Readiness([Part(name="partitions", is_there=_not_yet)])


async def _check_stores(deps: WorkerDeps) -> str:
    """The id of usage.raw, once everything that a block relies on is as it must be (protocol 1, 2, 5, 27)."""
    settings, budget_s = deps.settings, deps.settings.worker.retry_budget_s
    check_deadlines(settings.ingest)
    ids = await until_available(lambda: checked_topic_ids(deps.engine, settings.kafka), budget_s, step="topic ids")
    await until_available(
        lambda: check_token_windows(deps.clickhouse, token_windows(settings)), budget_s, step="token windows"
    )
    await until_available(
        lambda: check_clocks(deps.engine, deps.clickhouse, deps.clock, settings.ingest), budget_s, step="clocks"
    )
    differences = await until_available(lambda: schema_differences(deps.clickhouse), budget_s, step="schema")
    if differences:
        raise SchemaDiffersError(
            f"events differs from this release: {'; '.join(differences)}: run `meterstream migrate`"
        )
    return ids[USAGE_RAW]


def _ingest_deps(app: App, deps: WorkerDeps, topic_id: str, ends: LogEnds) -> IngestDeps:
    worker = deps.settings.worker
    memory = FilterMemory(memory_bytes=worker.filter_memory_bytes, open_files_a_partition=worker.filter_open_files)
    allow_open_files(deps.settings.kafka.raw_partitions * (worker.filter_open_files + FILES_BESIDE) + FILES_OF_A_WORKER)
    root = Path(worker.data_dir) / "filter"

    async def end_offset(partition: int) -> int:
        return (await ends.read())[partition]

    async def commit(partition: int, offset: int) -> bool:
        return await cast("Consumer", app.consumer).commit_positions({TP(USAGE_RAW, partition): offset})

    return IngestDeps(
        settings=deps.settings,
        clock=deps.clock,
        topic_id=topic_id,
        engine=deps.engine,
        ledger=deps.ledger,
        clickhouse=deps.clickhouse,
        producer=deps.producer,
        catalog=deps.catalog,
        log=LogReader(deps.settings.kafka, USAGE_RAW),
        end_offset=end_offset,
        commit=commit,
        open_filter=lambda partition: DuplicateFilter(root / str(partition), memory, topic_id),
        evaluation=ThreadPoolExecutor(max_workers=1, thread_name_prefix="evaluation"),
        inserts=asyncio.Semaphore(deps.settings.ingest.parallel_inserts),
        loads=asyncio.Semaphore(1),
    )


def _exit_at_last(code: int, within_s: float) -> None:
    """End the process if it has not ended by itself. Nothing is lost: what is not done is unacknowledged."""
    timer = threading.Timer(within_s, os._exit, (code,))
    timer.daemon = True
    timer.start()
