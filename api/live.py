"""What is new in the ledger: one watcher a process, which all streams of that process wait for.

It polls while anybody listens: partitions every `POLL_S`, and the counts of the blocks done since, only when there are
any. So a stream learns of a block within `POLL_S` of its being done, and reads its query again only when its own tenant's
events were in it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from litestar.datastructures import State
from msgspec import Struct

from api.deps import ApiDeps
from api.errors import RateLimited
from domain.errors import MeterstreamError
from schemas.scope import Scope
from schemas.topics import USAGE_RAW
from stores.postgres.progress import Outcomes, Progress, ProgressReader

POLL_S = 0.05
BACKOFF_S = 1.0
MAX_STREAMS = 256
RATE_OVER_S = 3.0

_log = structlog.get_logger(__name__)


class Seen(Struct, frozen=True, kw_only=True):
    """The ledger at one poll. `revision` counts the polls that found blocks with events of the scope asked for."""

    progress: Progress
    revision: int


class LedgerWatch:
    """Fans the ledger's progress out. At most `MAX_STREAMS` listeners; polls only while there is one."""

    def __init__(self, reader: ProgressReader, monotonic: Callable[[], float]) -> None:
        self.reader = reader
        self._monotonic = monotonic
        self._listeners = 0
        self._task: asyncio.Task[None] | None = None
        self._polled = asyncio.Condition()
        self._progress: Progress | None = None
        self._revisions: dict[Scope, int] = {}
        self._totals: dict[Scope, Outcomes] = {}
        self._rates: dict[Scope, deque[tuple[float, int]]] = {}

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """For the time of one stream. Raises RateLimited when there are too many."""
        self.check_room()
        self._listeners += 1
        if self._task is None:
            self._task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners:
                await self._rest()

    def check_room(self) -> None:
        """Raises RateLimited when no further stream can be served: ask before the answer begins."""
        if self._listeners >= MAX_STREAMS:
            raise RateLimited(f"this process serves {MAX_STREAMS} streams already", retry_after_s=5)

    async def seen(self, scope: Scope) -> Seen:
        """The newest poll; waits for the first."""
        async with self._polled:
            await self._polled.wait_for(lambda: self._progress is not None)
            return self._seen(scope)

    async def changed(self, scope: Scope, revision: int, within_s: float) -> Seen:
        """The first poll with another revision than this, or the newest after `within_s`."""
        try:
            async with asyncio.timeout(within_s), self._polled:
                await self._polled.wait_for(
                    lambda: self._progress is not None and self._revisions.get(scope, 0) != revision
                )
                return self._seen(scope)
        except TimeoutError:
            return await self.seen(scope)

    async def totals(self, scope: Scope) -> tuple[Outcomes, float]:
        """All outcomes of the scope so far, and its events per second over the last `RATE_OVER_S`."""
        async with self._polled:
            await self._polled.wait_for(lambda: self._progress is not None)
            if scope not in self._totals and self._progress is not None:
                # Under the lock: no poll may move the vector on meanwhile, or blocks would be counted twice.
                self._totals[scope] = await self.reader.outcomes_of(scope, self._progress.vector)
            totals = self._totals[scope]
        return totals, self._rate(scope, totals.accepted)

    def _seen(self, scope: Scope) -> Seen:
        if self._progress is None:
            raise RuntimeError("the ledger was not polled yet")
        return Seen(progress=self._progress, revision=self._revisions.get(scope, 0))

    def _rate(self, scope: Scope, accepted: int) -> float:
        now = self._monotonic()
        points = self._rates.setdefault(scope, deque())
        points.append((now, accepted))
        while len(points) > 1 and points[0][0] < now - RATE_OVER_S:
            points.popleft()
        first_at, first = points[0]
        return (accepted - first) / (now - first_at) if now > first_at else 0.0

    async def _watch(self) -> None:
        while True:
            try:
                await self._poll()
            except MeterstreamError as error:
                # Streams keep their connection and say nothing new; `as_of` shows it. The next poll may succeed.
                _log.warning("the ledger cannot be read", error=error.message)
                await asyncio.sleep(BACKOFF_S)
            await asyncio.sleep(POLL_S)

    async def _poll(self) -> None:
        progress = await self.reader.progress()
        async with self._polled:
            before = self._progress
            if before is not None and before.vector != progress.vector:
                done = await self.reader.outcomes_between(before.vector, progress.vector)
                for scope, outcomes in done.items():
                    if outcomes.stored:
                        self._revisions[scope] = self._revisions.get(scope, 0) + 1
                    if scope in self._totals:
                        self._totals[scope] = self._totals[scope].plus(outcomes)
            self._progress = progress
            self._polled.notify_all()

    async def _rest(self) -> None:
        """Nobody listens: what was counted would go stale, so it is forgotten with the task."""
        task, self._task = self._task, None
        self._progress = None
        self._totals.clear()
        self._rates.clear()
        if task is not None:
            task.cancel()
            await asyncio.wait({task})


def watch_of(state: State, deps: ApiDeps) -> LedgerWatch:
    """The watcher of this application, made by the first stream."""
    watch = state.get("ledger_watch")
    if watch is None:
        reader = ProgressReader(deps.engine, USAGE_RAW)
        watch = state["ledger_watch"] = LedgerWatch(reader, asyncio.get_running_loop().time)
    found: LedgerWatch = watch
    return found
