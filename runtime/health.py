"""Health of a process on a port of its own: `/healthz` (alive), `/readyz` (names what is missing), `/metrics`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web

from runtime import metrics
from runtime.readiness import Readiness


class Health:
    """The endpoints."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    @asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncIterator[None]:
        """Answers within the block."""
        server = web.Application()
        server.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        runner = web.AppRunner(server, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
            yield
        finally:
            await runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return _answer({"status": "ok"}, 200)

    async def _readyz(self, _: web.Request) -> web.Response:
        ready = await self._readiness.ask()
        return _answer(ready, ready.status)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), headers={"Content-Type": metrics.CONTENT_TYPE})


def _answer(body: object, status: int) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")
