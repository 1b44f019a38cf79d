"""The whole running system for tests: what `meterstream dev` starts, on a directory that goes with it."""

import asyncio
import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
from temporalio.client import Client as Temporal
from temporalio.client import ScheduleHandle

from cli.system import ROLES, LocalSystem, SystemAddress
from runtime.local.apps import MAX_EXITS, NO_LIMIT
from runtime.local.stack import PARTS as SERVERS
from tests.support.waiting import eventually
from workflows.ids import CLOSING_SCHEDULE

T = TypeVar("T")

SETTINGS = {
    "METERSTREAM_CLOSING_SCHEDULE_INTERVAL_S": "2",
    "METERSTREAM_CLOSING_CUT_MIN_INTERVAL_S": "0",
    "METERSTREAM_CLOSING_BATCH_SIZE": "5",
    # A killed worker's partitions are free for its successor after this.
    "METERSTREAM_WORKER_SESSION_TIMEOUT_S": "6",
    "METERSTREAM_WORKER_HEARTBEAT_INTERVAL_S": "1",
}
APPS = ("api", *(f"worker-{role}" for role in ROLES), "temporal-worker")
HTTP_TIMEOUT_S = 30.0
START_WITHIN_S = 180.0
STOP_WITHIN_S = 90.0
COMMAND_WITHIN_S = 120.0
CLOSING_STILL_WITHIN_S = 60.0
LOOP_ENDS_WITHIN_S = 10.0


class System:
    """A started system. Its supervisor lives in an event loop of its own thread, so that any test can use it.

    `http` sends `api_key`, which may do everything in the tenant `default`.
    """

    def __init__(self, local: LocalSystem, address: SystemAddress, loop: asyncio.AbstractEventLoop) -> None:
        self.local = local
        self.address = address
        self.base_url = address.url
        self.api_key = address.api_key
        self.http = self.client(address.api_key)
        self._loop = loop

    def client(self, api_key: str) -> httpx.Client:
        """Somebody with this key; whoever asks closes it."""
        headers = {"Authorization": f"Bearer {api_key}"}
        return httpx.Client(base_url=self.base_url, headers=headers, timeout=HTTP_TIMEOUT_S)

    def run(self, *arguments: str) -> str:
        """What `meterstream ARGUMENTS` prints on this system."""
        return self._wait(self.local.run(*arguments), COMMAND_WITHIN_S).strip()

    def new_key(self, tenant: str, scopes: str = "*") -> str:
        return self.run("key", "create", "--tenant", tenant, "--scopes", scopes).splitlines()[-1].strip()

    def pid(self, name: str) -> int:
        """The present process of one of SERVERS or APPS."""
        assert self.local.apps is not None
        return self.local.stack.pid(name) if name in SERVERS else self.local.apps.pid(name)

    def pids(self) -> dict[str, int]:
        return {name: self.pid(name) for name in (*SERVERS, *APPS)}

    def kill(self, name: str) -> None:
        """SIGKILL a process. The supervisor starts an app again; a server stays away until `start_again`."""
        os.kill(self.pid(name), signal.SIGKILL)

    def start_again(self, server: str) -> None:
        self._wait(self.local.stack.start_again(server), START_WITHIN_S)

    @contextlib.contextmanager
    def closing_paused(self) -> Iterator[None]:
        """Inside, no period is closed; before, whatever is being closed comes to its end."""
        self._wait(self._pause_closing(), CLOSING_STILL_WITHIN_S)
        try:
            eventually(lambda: not self._wait(self._closes(), CLOSING_STILL_WITHIN_S), CLOSING_STILL_WITHIN_S)
            yield
        finally:
            self._wait(self._unpause_closing(), CLOSING_STILL_WITHIN_S)

    def _wait(self, work: Coroutine[Any, Any, T], within_s: float) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(within_s)

    async def _schedule(self) -> ScheduleHandle:
        client = await Temporal.connect(self.address.endpoints.temporal_address)
        return client.get_schedule_handle(CLOSING_SCHEDULE)

    async def _pause_closing(self) -> None:
        await (await self._schedule()).pause(note="a test prepares what is to be closed")

    async def _unpause_closing(self) -> None:
        await (await self._schedule()).unpause(note="prepared")

    async def _closes(self) -> bool:
        description = await (await self._schedule()).describe()
        return bool(description.info.running_actions)


@contextlib.contextmanager
def running_system(data: Path | None = None, settings: Mapping[str, str] | None = None) -> Iterator[System]:
    """Start everything, on `data` or on a directory that goes with it; stop it at the end.

    `settings` go over SETTINGS; with any, our processes may exit as often as they like.
    """
    with contextlib.ExitStack() as cleanup:
        # Below 0755 directories, as an installed system has it; pytest's own temporary directories are private.
        directory = data or Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="meterstream-test-")))
        directory.chmod(0o755)
        loop = cleanup.enter_context(_loop_of_its_own())
        local = LocalSystem(
            directory,
            say=lambda text: print(f"meterstream: {text}"),  # noqa: T201
            settings={**SETTINGS, **(settings or {})},
            max_exits=NO_LIMIT if settings else MAX_EXITS,
        )
        starting = asyncio.run_coroutine_threadsafe(local.start(), loop)
        address = starting.result(START_WITHIN_S)
        cleanup.callback(lambda: asyncio.run_coroutine_threadsafe(local.stop(), loop).result(STOP_WITHIN_S))
        system = System(local, address, loop)
        cleanup.callback(system.http.close)
        yield system


@contextlib.contextmanager
def _loop_of_its_own() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread that lives until the end: the kernel ends children with the thread that made them."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="system", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(LOOP_ENDS_WITHIN_S)
        loop.close()
