"""The whole system on this machine: the embedded servers, migrated, and our processes on them.

What `meterstream dev` runs in the foreground; the demo, the benchmark and the end-to-end tests run the same.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from runtime.local.apps import MAX_EXITS, Apps, AppSpec
from runtime.local.errors import PartFailedError
from runtime.local.ports import HOST, free_ports, listens
from runtime.local.process import tail_of
from runtime.local.stack import Endpoints, LocalStack

ROOT = Path(__file__).resolve().parents[1]
API_PORT = 8080
COMMAND_TIMEOUT_S = 120.0
ROLES = ("ingest", "balances", "notifications")
ONE_OF_EACH = dict.fromkeys(ROLES, 1)


class SystemAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where the system answers, and a key for it."""

    url: str
    api_key: str
    key_is_new: bool
    endpoints: Endpoints


def command(*arguments: str) -> tuple[str, ...]:
    """One of our own commands, on the Python that runs this."""
    return (sys.executable, "-m", "cli.main", *arguments)


def same_way(_: str, endpoints: Endpoints) -> Endpoints:
    """Every process reaches the servers directly."""
    return endpoints


def worker_names(workers: Mapping[str, int]) -> dict[str, str]:
    """Name -> role: worker-ingest, worker-ingest-2, ..."""
    return {
        f"worker-{role}" if number == 1 else f"worker-{role}-{number}": role
        for role, count in workers.items()
        for number in range(1, count + 1)
    }


def settings_environment(endpoints: Endpoints, *, api_port: int) -> dict[str, str]:
    return {
        "METERSTREAM_KAFKA_BOOTSTRAP": endpoints.kafka_bootstrap,
        "METERSTREAM_POSTGRES_URL": endpoints.postgres_url,
        "METERSTREAM_CLICKHOUSE_URL": endpoints.clickhouse_url,
        "METERSTREAM_TEMPORAL_ADDRESS": endpoints.temporal_address,
        "METERSTREAM_API_HOST": HOST,
        "METERSTREAM_API_PORT": str(api_port),
    }


class LocalSystem:
    """Everything on the directory `data`. `settings` are METERSTREAM_* names for all our processes; `say` shows progress.

    `workers` says how many of each role. `route(name, endpoints)` answers how one of our processes reaches the servers,
    for somebody who puts something in between. An app that exits more than `max_exits` times in a minute ends the
    system. `start` and `stop` once each. After `start`, `failed` ends when the system cannot go on.
    """

    def __init__(
        self,
        data: Path,
        *,
        say: Callable[[str], None],
        api_port: int = 0,
        settings: Mapping[str, str] | None = None,
        workers: Mapping[str, int] = ONE_OF_EACH,
        stack: LocalStack | None = None,
        route: Callable[[str, Endpoints], Endpoints] = same_way,
        max_exits: int = MAX_EXITS,
    ) -> None:
        self.data = data.absolute()
        self.stack = stack or LocalStack(self.data)
        self.apps: Apps | None = None
        self._say = say
        self._api_port = api_port
        self._settings = dict(settings or {})
        self._workers = worker_names(workers)
        self._route = route
        self._max_exits = max_exits
        self._env: dict[str, str] = {}

    async def start(self) -> SystemAddress:
        """Servers, then migrations, then our processes, then a key. Raises PartFailedError or StackError."""
        try:
            return await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> SystemAddress:
        self._say("starting Kafka, PostgreSQL, ClickHouse and Temporal")
        endpoints = await self.stack.start()
        api_port, *health_ports = free_ports(len(self._workers) + 2)
        if self._api_port and not listens(self._api_port):
            api_port = self._api_port
        self._env = self._environment("command", endpoints, api_port)
        self._say("migrating")
        await self.run("migrate")
        self._say("starting api, workers and temporal-worker")
        specs = self._specs(endpoints, api_port, health_ports)
        if self.stack.guard is None:
            raise RuntimeError("the stack that was started has no guardian")
        self.apps = Apps(specs, logs=self.stack.logs, guard=self.stack.guard, say=self._say, max_exits=self._max_exits)
        await self.apps.start()
        key, is_new = await self._api_key()
        return SystemAddress(url=f"http://{HOST}:{api_port}", api_key=key, key_is_new=is_new, endpoints=endpoints)

    async def run(self, *arguments: str) -> str:
        """Run one of our commands on this system: its standard output. PartFailedError when it fails."""
        log = self.stack.logs / f"{arguments[0]}.log"

        def call() -> subprocess.CompletedProcess[str]:
            with log.open("a") as errors:
                return subprocess.run(
                    command(*arguments),
                    check=False,
                    env=self._env,
                    cwd=self.data,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    timeout=COMMAND_TIMEOUT_S,
                )

        done = await asyncio.to_thread(call)
        if done.returncode != 0:
            raise PartFailedError(arguments[0], f"exited with code {done.returncode}", done.stdout + tail_of(log))
        return done.stdout

    async def failed(self) -> Exception:
        """Wait until a server exits or one of our processes exits too often: what to report."""
        if self.apps is None:
            raise RuntimeError("the system was not started")
        waits = [asyncio.ensure_future(self.stack.failed()), asyncio.ensure_future(self.apps.failed())]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return done.pop().result()

    async def stop(self) -> None:
        """Our processes first, then the servers. Safe to repeat."""
        if self.apps is not None:
            await self.apps.stop()
        await self.stack.stop()

    def _environment(self, name: str, endpoints: Endpoints, api_port: int) -> dict[str, str]:
        given = settings_environment(self._route(name, endpoints), api_port=api_port)
        return {**os.environ, **given, **self._settings, "PYTHONPATH": _python_path()}

    def _specs(self, endpoints: Endpoints, api_port: int, health_ports: list[int]) -> list[AppSpec]:
        *worker_ports, temporal_worker_port = health_ports

        def spec(name: str, port: int, *arguments: str, **own: str) -> AppSpec:
            return AppSpec(
                name=name,
                argv=command(*arguments),
                env={**self._environment(name, endpoints, api_port), **own},
                ready_url=f"http://{HOST}:{port}/readyz",
                cwd=self.data,
            )

        specs = [spec("api", api_port, "api")]
        for (name, role), port in zip(self._workers.items(), worker_ports, strict=True):
            own = {
                "METERSTREAM_WORKER_DATA_DIR": str(self.data / name),
                "METERSTREAM_WORKER_HEALTH_PORT": str(port),
            }
            specs.append(spec(name, port, "worker", "--role", role, **own))
        own = {"METERSTREAM_TEMPORAL_WORKER_HEALTH_PORT": str(temporal_worker_port)}
        specs.append(spec("temporal-worker", temporal_worker_port, "temporal-worker", **own))
        return specs

    async def _api_key(self) -> tuple[str, bool]:
        """The key of this directory: created at its first start, kept in a file that only its owner reads."""
        kept = self.data / "api-key"
        if kept.exists():
            return kept.read_text().strip(), False
        printed = await self.run("key", "create", "--tenant", "default", "--environment", "live", "--scopes", "*")
        key = printed.strip().splitlines()[-1].strip()
        kept.touch(mode=0o600)
        kept.write_text(f"{key}\n")
        return key, True


def _python_path() -> str:
    return os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
