"""A fresh ground for each run of a plan: topics, databases and workers of its own, on servers that are started once."""

import asyncio
import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka.admin import AdminClient

from domain.events import encode_event
from runtime.local.ports import free_ports
from runtime.settings import ClickhouseSettings, Secret, load_settings
from schemas.catalog import CatalogVersion
from schemas.events import UsageEvent
from schemas.ledger import LedgerPartition
from schemas.meters import Meter
from schemas.topics import BALANCES_CHANGELOG, CATALOG_CHANGED, TOPICS, USAGE_RAW
from stores.clickhouse.client import ClickhouseClient
from stores.postgres.engine import create_engine
from stores.postgres.ledger import Ledger
from stores.topics import recorded_ids
from tests.support.broker import delete_topics
from tests.support.ingest import NOW, Stack, catalog_version, headers
from tests.support.pipeline import end_offsets, produce, settings_of
from tests.support.servers import ROOT
from tests.support.waiting import eventually_async

PARTITION = 0
# One partition: whoever owns it owns all, and a plan knows where everything stands.
SETTINGS = {
    "METERSTREAM_KAFKA_RAW_PARTITIONS": "1",
    "METERSTREAM_KAFKA_BALANCE_PARTITIONS": "1",
    "METERSTREAM_WORKER_RETRY_BUDGET_S": "8",
    "METERSTREAM_INGEST_CLOCK_SKEW_S": "0.2",
}
TAKEN_OVER_WITHIN_S = 40.0
STOPPED_WITHIN_S = 10.0
_POLL_S = 0.1

_ERROR = re.compile(r"Error: |Fenced: |is refused|does not give")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

_numbers = itertools.count(1)


class Process:
    """A worker under a name, whose disk and log stay when it is started again."""

    def __init__(self, directory: Path, environ: dict[str, str], role: str, arguments: Sequence[str]) -> None:
        self.directory = directory
        self.log = directory / "worker.log"
        self.starts = 0
        self.is_kept = False
        self._environ = {**environ, "METERSTREAM_WORKER_DATA_DIR": str(directory / "data")}
        self._role = role
        self._arguments = arguments
        self._running: subprocess.Popen[bytes] | None = None

    def start(self, faults: Sequence[str] = ()) -> None:
        (port,) = free_ports(1)
        given = [part for fault in faults for part in ("--fault", fault)]
        ours = [*self._arguments, *given, "--signs", str(self.directory)]
        with self.log.open("ab") as sink:
            self._running = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.mutants.run", *ours, "--", "worker", "--role", self._role],
                cwd=ROOT,
                env={**os.environ, **self._environ, "METERSTREAM_WORKER_HEALTH_PORT": str(port)},
                stdout=sink,
                stderr=sink,
            )
        self.starts += 1

    @property
    def is_running(self) -> bool:
        return self._running is not None and self._running.poll() is None

    async def reached(self, step: str, within_s: float = TAKEN_OVER_WITHIN_S) -> None:
        await eventually_async((self.directory / f"{step}.reached").exists, within_s)

    def open(self, step: str) -> None:
        (self.directory / f"{step}.open").touch()

    def pause(self) -> None:
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        self.is_kept = False
        if self._running is not None:
            self._send(signal.SIGKILL)
            self._running.wait(STOPPED_WITHIN_S)

    def last_words(self) -> str:
        """The last error in its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        errors = [_COLOUR.sub("", line).strip() for line in lines if _ERROR.search(line)]
        return errors[-1] if errors else ""

    def _send(self, number: int) -> None:
        if self._running is not None and self._running.poll() is None:
            self._running.send_signal(number)


class Ground:
    """What a plan plays on. `sent` is the truth: each event once, and the meters that it was judged by."""

    def __init__(
        self, directory: Path, environ: dict[str, str], stack: Stack, group: str, arguments: Sequence[str]
    ) -> None:
        self.group = group
        self.stack = stack
        self.sent: list[tuple[UsageEvent, Sequence[Meter]]] = []
        self.meters: list[Meter] = []
        self.version = 0
        self._directory = directory
        self._environ = environ
        self._arguments = arguments
        self._workers: dict[str, Process] = {}

    def worker(self, name: str, *faults: str, role: str = "ingest", kept: bool = False) -> Process:
        """Start it. What is `kept` is started again when it exits, as a supervisor does, without the faults."""
        worker = self._workers.get(name)
        if worker is None:
            directory = self._directory / name
            directory.mkdir()
            worker = self._workers[name] = Process(directory, self._environ, role, self._arguments)
        worker.start(faults)
        worker.is_kept = kept
        return worker

    async def learn(self, *meters: Meter) -> None:
        """The next version of the catalog."""
        self.version += 1
        self.meters += meters
        change: CatalogVersion = catalog_version(self.version, list(meters))
        key = b"%d" % self.version
        await produce(self.stack.bootstrap, CATALOG_CHANGED, [(0, msgspec.json.encode(change), [])], key=key)

    async def send(self, *events: UsageEvent, copy: bool = False, received_at: datetime = NOW) -> int:
        """One record; its offset."""
        value = b"[" + b",".join(encode_event(one) for one in events) + b"]"
        received = ("received_at_ms", b"%d" % int(received_at.timestamp() * 1000))
        given = [received if name == "received_at_ms" else (name, text) for name, text in headers(self.version)]
        await produce(self.stack.bootstrap, USAGE_RAW, [(PARTITION, value, given)])
        if not copy:
            self.sent += [(one, tuple(self.meters)) for one in events]
        return await self.log_end() - 1

    async def rows(self, sql: str) -> list[Any]:
        """`{}` stands for the database."""
        return await self.stack.rows(sql.format(self.stack.clickhouse.database))

    async def log_end(self) -> int:
        return (await end_offsets(self.stack.bootstrap, USAGE_RAW, 1))[PARTITION]

    async def ledger(self) -> LedgerPartition:
        found = await self.stack.ledger.partition(self.stack.topic_id, PARTITION)
        assert found is not None
        return found

    async def done(self, offset: int, within_s: float = TAKEN_OVER_WITHIN_S) -> None:
        """Wait until the block that holds this offset is done."""
        await self._supervised(lambda: self._is_done(offset), within_s)

    async def settled(self, within_s: float) -> None:
        """Wait until the ledger has reached the end of the log. Raises AssertionError."""
        end = await self.log_end()
        await self._supervised(lambda: self._is_done(end - 1), within_s)

    async def gone(self, worker: Process, within_s: float) -> bool:
        """Whether a worker exits by itself within the time."""
        with contextlib.suppress(AssertionError):
            await eventually_async(lambda: not worker.is_running, within_s)
        return not worker.is_running

    async def committed(self, group: str) -> int:
        """Kafka's next offset of a group; 0 where nothing was committed."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.stack.bootstrap, group_id=group, enable_auto_commit=False, session_timeout_ms=6000
        )
        await consumer.start()
        try:
            return await consumer.committed(TopicPartition(USAGE_RAW, PARTITION)) or 0
        finally:
            await consumer.stop()

    def last_words(self) -> str:
        words = [worker.last_words() for worker in self._workers.values()]
        return next((one for one in reversed(words) if one), "")

    def end(self) -> None:
        for worker in self._workers.values():
            worker.resume()
            worker.kill()

    async def _supervised(self, check: Any, within_s: float) -> None:
        async def checked() -> bool:
            for worker in self._workers.values():
                if worker.is_kept and not worker.is_running:
                    worker.start()
            return bool(await check())

        await eventually_async(checked, within_s, every_s=_POLL_S)

    async def _is_done(self, offset: int) -> bool:
        return (await self.ledger()).last_offset >= offset


@contextlib.asynccontextmanager
async def fresh_ground(
    endpoints: dict[str, str], directory: Path, mutant: str | None, settings: dict[str, str], faults: Sequence[str]
) -> AsyncIterator[Ground]:
    """On a new `directory`. `faults` are suffered by every process of the run, the migration too."""
    name = f"run{next(_numbers)}"
    await asyncio.to_thread(directory.mkdir)
    postgres_url, clickhouse_url = endpoints["postgres_url"], endpoints["clickhouse_url"]
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    root = ClickhouseClient(ClickhouseSettings(url=Secret(clickhouse_url)))
    await root.command(f"CREATE DATABASE {name}")
    admin_client = AdminClient({"bootstrap.servers": endpoints["kafka_bootstrap"]})
    await asyncio.to_thread(delete_topics, admin_client, [*(spec.name for spec in TOPICS), BALANCES_CHANGELOG])
    own_url = urlsplit(postgres_url)._replace(path=f"/{name}").geturl()
    environ = settings_of({**endpoints, "postgres_url": own_url}, directory, METERSTREAM_CLICKHOUSE_DATABASE=name)
    environ |= {**SETTINGS, **settings}
    always = [part for fault in (*faults, f"group={name}") for part in ("--fault", fault)]
    await asyncio.to_thread(_migrate, environ, always)
    arguments = [*always, *(() if mutant is None else ("--mutant", mutant))]
    stores = load_settings(environ)
    engine, clickhouse = create_engine(stores.postgres), ClickhouseClient(stores.clickhouse)
    topic_id = (await recorded_ids(engine))[USAGE_RAW]
    ground = Ground(directory, environ, Stack(stores, topic_id, Ledger(engine), clickhouse), name, arguments)
    try:
        yield ground
    finally:
        ground.end()
        await clickhouse.close()
        await engine.dispose()
        await root.command(f"DROP DATABASE IF EXISTS {name}")
        await root.close()
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _migrate(environ: dict[str, str], always: Sequence[str]) -> None:
    command = [sys.executable, "-m", "tests.chaos.mutants.run", *always, "--", "migrate"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **environ}, check=True, timeout=120, stdout=subprocess.DEVNULL)
