"""Our own processes beside the servers: started again when they exit, with backoff, until that happens too often."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from runtime.local.errors import PartFailedError
from runtime.local.ports import answers_ok
from runtime.local.process import Child, Guardian, ProcessSpec

MAX_EXITS = 5
EXITS_WITHIN_S = 60.0
FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 8.0
# For whoever kills them on purpose, again and again.
NO_LIMIT = 1_000_000
READY_WITHIN_S = 90.0
STOP_GRACE_S = 20.0


class AppSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A process of ours. `ready_url` answers 200 once it can work; empty: ready when it runs."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    ready_url: str = ""
    cwd: Path | None = None


class Apps:
    """Runs `specs` until `stop`, or until one of them exits `max_exits` times in a minute, which ends `failed`."""

    def __init__(
        self,
        specs: Sequence[AppSpec],
        *,
        logs: Path,
        guard: Guardian,
        say: Callable[[str], None],
        first_backoff_s: float = FIRST_BACKOFF_S,
        max_backoff_s: float = MAX_BACKOFF_S,
        max_exits: int = MAX_EXITS,
    ) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._logs = logs
        self._guard = guard
        self._say = say
        self._first_backoff_s = first_backoff_s
        self._max_backoff_s = max_backoff_s
        self._max_exits = max_exits
        self._wanted = {name: asyncio.Event() for name in self._specs}
        self._children: dict[str, Child] = {}
        self._watches: list[asyncio.Task[PartFailedError]] = []

    async def start(self) -> None:
        """Start all in parallel and wait until each is ready. PartFailedError names the one that is not."""
        for spec in self._specs.values():
            self._wanted[spec.name].set()
            self._spawn(spec)
        self._watches = [asyncio.create_task(self._watch(spec)) for spec in self._specs.values()]
        all_ready = asyncio.ensure_future(asyncio.gather(*(self._ready(spec) for spec in self._specs.values())))
        try:
            first: list[asyncio.Future[Any]] = [all_ready, *self._watches]
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            for watch in self._watches:
                if watch.done():
                    raise watch.result()
            await all_ready
        finally:
            all_ready.cancel()
            await asyncio.gather(all_ready, return_exceptions=True)

    async def failed(self) -> PartFailedError:
        """Wait until one of them has exited too often: what to report."""
        done, _ = await asyncio.wait(self._watches, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()

    async def stop(self) -> None:
        """Stop all at once and wait for them. Safe to repeat."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await asyncio.gather(*(child.stop() for child in self._children.values()))

    def pid(self, name: str) -> int:
        """The present process of an app; another one after it was started again."""
        return self._children[name].pid

    async def leave(self, name: str) -> None:
        """Stop an app and keep it away until `join`."""
        self._wanted[name].clear()
        await self._children[name].stop()

    def join(self, name: str) -> None:
        """Start an app again that was told to leave."""
        self._wanted[name].set()

    def _spawn(self, spec: AppSpec) -> None:
        process = ProcessSpec(
            name=spec.name,
            argv=spec.argv,
            log=self._logs / f"{spec.name}.log",
            env=spec.env,
            cwd=spec.cwd,
            stop_grace_s=STOP_GRACE_S,
        )
        self._children[spec.name] = Child.spawn(process, self._guard)

    async def _ready(self, spec: AppSpec) -> None:
        """Wait for the answer of whichever process of the app there is by then."""
        deadline = time.monotonic() + READY_WITHIN_S
        while spec.ready_url and not await asyncio.to_thread(answers_ok, spec.ready_url):
            if time.monotonic() > deadline:
                raise self._children[spec.name].failure(f"not ready within {READY_WITHIN_S:g} s")
            await asyncio.sleep(0.1)

    async def _watch(self, spec: AppSpec) -> PartFailedError:
        """Start the process again each time it exits; returns once that has happened too often."""
        exits: deque[float] = deque()
        while True:
            child = self._children[spec.name]
            code = await child.wait()
            if self._wanted[spec.name].is_set():
                exits.append(time.monotonic())
                while exits[-1] - exits[0] >= EXITS_WITHIN_S:
                    exits.popleft()
                if len(exits) >= self._max_exits:
                    return child.failure(
                        f"exited {len(exits)} times within {EXITS_WITHIN_S:g} s, last with code {code}"
                    )
                delay = min(self._first_backoff_s * 2 ** (len(exits) - 1), self._max_backoff_s)
                self._say(f"{spec.name} exited with code {code}; it starts again in {delay:g} s")
                await asyncio.sleep(delay)
            await self._wanted[spec.name].wait()
            self._spawn(spec)
