"""All four servers as one thing: started in parallel, stopped in order, one data directory."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from runtime.local.clickhouse_server import ClickhouseServer
from runtime.local.kafka import KafkaServer
from runtime.local.lock import DataLock
from runtime.local.postgres import PostgresServer
from runtime.local.process import Child, Guardian
from runtime.local.temporal import TemporalServer


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Where the parts that were started answer; empty for those that were not."""

    kafka_bootstrap: str = ""
    postgres_url: str = ""
    clickhouse_url: str = ""
    temporal_address: str = ""


class Server(Protocol):
    child: Child | None

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


# Stopped in this order: what writes stops before what it writes to.
PARTS = ("temporal", "kafka", "clickhouse", "postgres")


class LocalStack:
    """The servers on one directory: `DIR/<part>` holds their data, `DIR/logs` their logs.

    `start` and `stop` once each, in the main thread's event loop. A second stack on the same directory finds all data
    again; while the first one runs it is refused with StackError. `kafka_advertised` (host:port): what Kafka sends its
    clients to instead of its own port.
    """

    def __init__(self, data: Path, *, only: Sequence[str] = PARTS, kafka_advertised: str = "") -> None:
        if unknown := set(only) - set(PARTS):
            raise ValueError(f"no part is called {sorted(unknown)}: there are {', '.join(PARTS)}")
        self.data = data.absolute()
        self.logs = self.data / "logs"
        self.guard: Guardian | None = None
        self._only = frozenset(only)
        self._kafka_advertised = kafka_advertised
        self._lock = DataLock(self.data)
        self._servers: dict[str, Server] = {}

    async def start(self) -> Endpoints:
        """Start the parts in parallel. When one fails, all are stopped and its PartFailedError is raised."""
        self._lock.acquire()
        self.guard = guard = Guardian(held_fds=(self._lock.servers_fd,))
        logs = self.logs
        temporal = TemporalServer(data=self.data / "temporal", logs=logs, guard=guard)
        kafka = KafkaServer(data=self.data / "kafka", logs=logs, guard=guard, advertised=self._kafka_advertised)
        clickhouse = ClickhouseServer(data=self.data / "clickhouse", logs=logs, guard=guard)
        postgres = PostgresServer(data=self.data / "postgres", logs=logs, guard=guard)
        servers: tuple[Server, ...] = (temporal, kafka, clickhouse, postgres)
        self._servers = {name: server for name, server in zip(PARTS, servers, strict=True) if name in self._only}
        try:
            await _all_or_first_error(self._servers)
        except BaseException:
            await self.stop()
            raise
        return Endpoints(
            kafka_bootstrap=kafka.bootstrap,
            postgres_url=postgres.url,
            clickhouse_url=clickhouse.url,
            temporal_address=temporal.address,
        )

    async def failed(self) -> Exception:
        """Wait until one of the servers exits, which none of them should: what to report. None is restarted."""
        children = [server.child for server in self._servers.values() if server.child is not None]
        waits = {asyncio.ensure_future(child.wait()): child for child in children}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        first = waits[done.pop()]
        return first.failure(f"exited with code {first.exit_code}")

    async def start_again(self, part: str) -> None:
        """Stop a part if it still runs and start it on its data and its ports: for a person or a test that killed it."""
        server = self._servers[part]
        await server.stop()
        await server.start()

    def pid(self, part: str) -> int:
        """The process of a part that was started."""
        child = self._servers[part].child
        if child is None:
            raise ValueError(f"{part} does not run")
        return child.pid

    async def stop(self) -> None:
        """Stop the parts in order and give the directory back. Safe to repeat."""
        for server in self._servers.values():
            await server.stop()
        if self.guard is not None:
            await asyncio.to_thread(self.guard.close)
        self._lock.release()


async def _all_or_first_error(servers: dict[str, Server]) -> None:
    starts = [asyncio.create_task(server.start(), name=name) for name, server in servers.items()]
    try:
        for next_one in asyncio.as_completed(starts):
            await next_one
    finally:
        for start in starts:
            start.cancel()
        await asyncio.gather(*starts, return_exceptions=True)
