"""Health of a worker on a port of its own: `/healthz` (alive), `/readyz` (working), `/metrics`.

A worker whose committed offsets stand still while there is lag, or whose recovery never ends, is dead even if its process
is not: it crashes itself, so that the group moves on.
"""

import asyncio
from typing import Any, cast

import msgspec
import structlog
from aiohttp import web
from faust.types import TP
from mode import Service

from runtime import metrics
from runtime.readiness import Ready
from streams.app import App, Role
from streams.retry import services_away
from streams.transport import Consumer

DEFAULT_PORTS: dict[Role, int] = {"ingest": 8081, "balances": 8082, "notifications": 8083}
CHECK_INTERVAL_S = 1.0

_log = structlog.get_logger(__name__)


class WorkerReady(Ready, frozen=True, kw_only=True):
    """`stopped`: partitions that this worker owns and reads no further, and why. It goes on with the others."""

    stopped: dict[str, str] = msgspec.field(default_factory=dict)


class StalledError(Exception):
    """The worker makes no progress although there is work: it is taken for dead."""


class Progress:
    """Decides from what it is shown whether a worker stands still. Instants are seconds of any steady clock."""

    def __init__(self, *, stalled_after_s: float, recovery_max_s: float) -> None:
        self._stalled_after_s = stalled_after_s
        self._recovery_max_s = recovery_max_s
        self._moved_at: dict[TP, tuple[int, float]] = {}
        self._recovering_since: float | None = None

    def judge(self, now: float, *, recovering: bool, committed: dict[TP, int], ends: dict[TP, int]) -> str | None:
        """Why the worker is dead, or None. `committed` and `ends` are next offsets of what is assigned."""
        if recovering:
            self._moved_at = {}
            self._recovering_since = self._recovering_since if self._recovering_since is not None else now
            waited_s = now - self._recovering_since
            return f"its recovery takes {waited_s:.0f} s" if waited_s > self._recovery_max_s else None
        self._recovering_since = None
        seen: dict[TP, tuple[int, float]] = {}
        for tp, end in ends.items():
            offset = committed.get(tp, 0)
            former, since = self._moved_at.get(tp, (offset, now))
            seen[tp] = (offset, since if former == offset and end > offset else now)
        self._moved_at = seen
        for tp, (offset, since) in seen.items():
            if now - since > self._stalled_after_s:
                return f"{tp.topic}/{tp.partition} stands at {offset} of {ends[tp]} for {now - since:.0f} s"
        return None


class Health(Service):
    """Serves the endpoints and watches the app. Add it to the worker beside the app."""

    def __init__(
        self, app: App, *, host: str, port: int, stalled_after_s: float, recovery_max_s: float, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._app = app
        self._host = host
        self._port = port
        self._progress = Progress(stalled_after_s=stalled_after_s, recovery_max_s=recovery_max_s)
        self._runner: web.AppRunner | None = None
        self._dead: str | None = None

    async def on_start(self) -> None:
        server = web.Application()
        server.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        self._runner = web.AppRunner(server, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    async def on_stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @Service.task
    async def _watch(self) -> None:
        while not self.should_stop:
            await self.sleep(CHECK_INTERVAL_S)
            if self.should_stop:
                return  # a consumer that has stopped cannot be asked
            committed, ends = self._offsets()
            for tp, end in ends.items():
                metrics.worker_lag_records.labels(f"{tp.topic}/{tp.partition}").set(max(end - committed.get(tp, 0), 0))
            # What was stopped on purpose does not stand still.
            ends = {tp: end for tp, end in ends.items() if tp not in self._app.stopped}
            now = asyncio.get_running_loop().time()
            self._dead = self._progress.judge(now, recovering=self._recovering, committed=committed, ends=ends)
            if self._dead is not None:
                _log.critical("this worker stands still and ends itself", reason=self._dead)
                await self._app.crash(StalledError(self._dead))
                return

    @property
    def _joined(self) -> bool:
        """Faust calls itself started before its consumer is; with the first assignment comes a generation."""
        return bool(self._app.started and self._app.consumer_generation_id)

    @property
    def _recovering(self) -> bool:
        return bool(self._app.rebalancing or self._app.in_recovery)

    def _offsets(self) -> tuple[dict[TP, int], dict[TP, int]]:
        """Next offsets, committed and of the log's end, of the assigned source partitions."""
        if not self._joined or self._recovering:
            return {}, {}
        consumer = cast("Consumer", self._app.consumer)
        assigned = [tp for tp in consumer.assignment() if self._app.topics.acks_enabled_for(tp.topic)]
        committed = {tp: consumer._committed_offset[tp] or 0 for tp in assigned}  # noqa: SLF001
        ends = {tp: int(end) for tp in assigned if (end := consumer.highwater(tp)) is not None}
        return committed, ends

    async def _healthz(self, _: web.Request) -> web.Response:
        alive = self._dead is None
        return _answer({"status": "alive" if alive else "dead", "reason": self._dead}, 200 if alive else 503)

    async def _readyz(self, _: web.Request) -> web.Response:
        missing = tuple(name for name, is_so in self._lacking() if is_so)
        # A service that is waited for leaves the worker ready: it holds its partitions and goes on by itself.
        stopped = {f"{tp.topic}/{tp.partition}": reason for tp, reason in self._app.stopped.items()}
        ready = WorkerReady(
            ready=not missing and not stopped, missing=missing, degraded=services_away(), stopped=stopped
        )
        return _answer(ready, ready.status)

    def _lacking(self) -> tuple[tuple[str, bool], ...]:
        return (
            ("progress", self._dead is not None),
            ("partitions", not self._joined or bool(self._app.rebalancing)),
            ("recovery", self._joined and bool(self._app.in_recovery)),
        )

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), headers={"Content-Type": metrics.CONTENT_TYPE})


def _answer(body: object, status: int) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")
