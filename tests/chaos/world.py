"""The whole real system with several workers of a role, a link before every server, and a hand on every process.

Used as `async with running_world(...) as world`: everything is ended at the end, however it ends.
"""

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from cli.system import LocalSystem, SystemAddress, worker_names
from runtime.local.apps import NO_LIMIT
from runtime.local.ports import HOST
from runtime.local.stack import Endpoints, LocalStack
from tests.chaos.proxy import InsertLink, Link

WORKERS = {"ingest": 2, "balances": 2, "notifications": 1}
SERVERS = ("temporal", "kafka", "clickhouse", "postgres")
INSERT_DEADLINE_S = 5
SESSION_TIMEOUT_S = 6
SETTINGS = {
    # Time-outs so short that a fault of seconds crosses them.
    "METERSTREAM_WORKER_SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S),
    "METERSTREAM_WORKER_HEARTBEAT_INTERVAL_S": "1",
    "METERSTREAM_WORKER_RETRY_BUDGET_S": "8",
    "METERSTREAM_INGEST_INSERT_DEADLINE_S": str(INSERT_DEADLINE_S),
    "METERSTREAM_INGEST_TOKEN_HORIZON_S": "20",
    "METERSTREAM_INGEST_CLOCK_SKEW_S": "1",
    "METERSTREAM_CLICKHOUSE_QUERY_TIMEOUT_S": "10",
    "METERSTREAM_POSTGRES_STATEMENT_TIMEOUT_S": "10",
    "METERSTREAM_POSTGRES_CONNECT_TIMEOUT_S": "3",
    "METERSTREAM_CLOSING_SCHEDULE_INTERVAL_S": "2",
    "METERSTREAM_CLOSING_CUT_MIN_INTERVAL_S": "0",
}
DISK_BYTES = 64 << 20
FILLER = "filler"


class World:
    """A started system. Names: those of SERVERS, `api`, `worker-ingest`, `worker-ingest-2`, ..., `temporal-worker`."""

    def __init__(self, data: Path, *, say: Callable[[str], None], kafka: Link) -> None:
        self.data = data
        self.links: dict[tuple[str, str], Link] = {}
        self.kafka = kafka
        self.address: SystemAddress | None = None
        self.disks: list[Path] = []
        self._say = say
        self._system: LocalSystem | None = None
        self._paused: set[int] = set()

    # --- what it is ---

    @property
    def system(self) -> LocalSystem:
        assert self._system is not None
        return self._system

    @property
    def url(self) -> str:
        assert self.address is not None
        return self.address.url

    @property
    def api_key(self) -> str:
        assert self.address is not None
        return self.address.api_key

    @property
    def endpoints(self) -> Endpoints:
        """The servers themselves, past all links; Kafka sends its clients through its link all the same."""
        assert self.address is not None
        return self.address.endpoints

    def link(self, app: str, server: str) -> Link:
        """Between one of our processes and ClickHouse or PostgreSQL; there is one before Kafka for all."""
        return self.kafka if server == "kafka" else self.links[app, server]

    def inserts(self, app: str) -> InsertLink:
        """The link between a process and ClickHouse, which can spoil INSERTs."""
        link = self.links[app, "clickhouse"]
        assert isinstance(link, InsertLink)
        return link

    def spoiled(self) -> dict[str, int]:
        """How many INSERTs came to which fate."""
        found = Counter[str]()
        for link in self.links.values():
            found.update(link.happened)
        return {str(fate): times for fate, times in found.items()}

    def pid(self, name: str) -> int:
        assert self.system.apps is not None
        return self.system.stack.pid(name) if name in SERVERS else self.system.apps.pid(name)

    # --- what can be done to it ---

    def kill(self, name: str) -> None:
        """SIGKILL. An app is started again by its supervisor, a server by `start_again`."""
        self._signal(self.pid(name), signal.SIGKILL)

    def pause(self, name: str) -> int:
        """SIGSTOP; the process, which `resume` continues even if another one has taken its place."""
        pid = self.pid(name)
        self._paused.add(pid)
        self._signal(pid, signal.SIGSTOP)
        return pid

    def resume(self, pid: int) -> None:
        self._paused.discard(pid)
        self._signal(pid, signal.SIGCONT)

    async def start_again(self, server: str) -> None:
        """Stop a server if it runs, in order, and start it on its data."""
        await self.system.stack.start_again(server)

    async def leave(self, app: str) -> None:
        assert self.system.apps is not None
        await self.system.apps.leave(app)

    def join(self, app: str) -> None:
        assert self.system.apps is not None
        self.system.apps.join(app)

    def fill_disk(self, app: str) -> bool:
        """Whether the small disk of this ingest worker was filled; False where none could be mounted."""
        disk = self.data / app
        if disk not in self.disks:
            return False
        with contextlib.suppress(OSError), (disk / FILLER).open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(64 << 10))
        return True

    def limit_files(self, app: str) -> None:
        """The next best to a full disk: no file of the process may grow (until it is another process)."""
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(self.pid(app), resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    def free_disk(self, app: str) -> None:
        (self.data / app / FILLER).unlink(missing_ok=True)
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(self.pid(app), resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def mend(self) -> None:
        """Take all faults of links, stopped processes and full disks away."""
        for pid in list(self._paused):
            self.resume(pid)
        for link in (self.kafka, *self.links.values()):
            link.mend()
            if isinstance(link, InsertLink):
                link.forget_inserts()
        for disk in self.disks:
            (disk / FILLER).unlink(missing_ok=True)

    # --- how it begins and ends ---

    async def start(self, system: LocalSystem) -> None:
        self._system = system
        self.address = await system.start()

    def route(self, app: str, endpoints: Endpoints) -> Endpoints:
        """How a process reaches the servers: through its own links. Commands go directly."""
        kafka_host, _, kafka_port = endpoints.kafka_bootstrap.partition(":")
        self.kafka.aim(kafka_host, int(kafka_port))
        if (app, "postgres") not in self.links:
            return endpoints
        found = {}
        for server, url in (("postgres", endpoints.postgres_url), ("clickhouse", endpoints.clickhouse_url)):
            parts = urlsplit(url)
            assert parts.hostname
            assert parts.port
            link = self.links[app, server]
            link.aim(parts.hostname, parts.port)
            found[f"{server}_url"] = url.replace(f"{parts.hostname}:{parts.port}", link.address)
        return msgspec.structs.replace(endpoints, kafka_bootstrap=self.kafka.address, **found)

    def mount_disk(self, app: str) -> None:
        """A small file system of its own for what this worker keeps, where we may mount one."""
        disk = self.data / app
        disk.mkdir(parents=True, exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)]
        if subprocess.run(mount, check=False, capture_output=True).returncode == 0:
            self.disks.append(disk)
        else:
            self._say(f"no small disk for {app}: we may not mount one")

    def _unmount_disks(self) -> None:
        while self.disks:
            subprocess.run(["umount", "--lazy", str(self.disks.pop())], check=False, capture_output=True)

    async def stop(self) -> None:
        """Safe to repeat."""
        self.mend()
        try:
            if self._system is not None:
                await self._system.stop()
        finally:
            for link in (self.kafka, *self.links.values()):
                await link.close()
            self._unmount_disks()

    def _signal(self, pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextlib.asynccontextmanager
async def running_world(
    data: Path,
    *,
    say: Callable[[str], None],
    workers: Mapping[str, int] = WORKERS,
    settings: Mapping[str, str] | None = None,
    small_disks: bool = True,
) -> AsyncIterator[World]:
    """The system on the directory `data`, started; stopped at the end, its directory left.

    `settings` go over SETTINGS; names without METERSTREAM_ reach the processes too. Must be entered in the main thread.
    """
    os.chmod(data, 0o755)  # noqa: PTH101, S103 - the servers' user must be able to enter it
    world = World(data, say=say, kafka=await Link("kafka").open())
    try:
        for app in ("api", *worker_names(workers), "temporal-worker"):
            world.links[app, "postgres"] = await Link(f"{app}/postgres").open()
            world.links[app, "clickhouse"] = await InsertLink(f"{app}/clickhouse").open()
        for name, role in worker_names(workers).items():
            if small_disks and role == "ingest":
                world.mount_disk(name)
        stack = LocalStack(data, kafka_advertised=f"{HOST}:{world.kafka.port}")
        system = LocalSystem(
            data,
            say=say,
            settings={**SETTINGS, **(settings or {})},
            workers=workers,
            stack=stack,
            route=world.route,
            max_exits=NO_LIMIT,
        )
        await world.start(system)
        yield world
    finally:
        await asyncio.shield(world.stop())
