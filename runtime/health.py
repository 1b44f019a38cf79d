"""Health of a process on a port of its own: `/healthz` (alive), `/readyz` (names what is missing), `/metrics`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web

from runtime import metrics

CHECK_WITHIN_S = 2.0

# Answers whether one thing is there; asked at every `/readyz`, and given up after `CHECK_WITHIN_S`.
Check = Callable[[], Awaitable[bool]]


class Health:
    """The endpoints. `checks` are what readiness asks for, by name; they do not raise."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks

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
        missing = [name for name, check in self._checks.items() if not await _passes(check)]
        return _answer({"ready": not missing, "missing": missing}, 503 if missing else 200)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), headers={"Content-Type": metrics.CONTENT_TYPE})


async def _passes(check: Check) -> bool:
    try:
        async with asyncio.timeout(CHECK_WITHIN_S):
            return await check()
    except TimeoutError:
        return False


def _answer(body: dict[str, object], status: int) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")
