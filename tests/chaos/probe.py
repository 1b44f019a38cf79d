"""Asks the running system how fresh its answers are, as any client could, all the time."""

import asyncio
import time
from datetime import datetime

import aiohttp
import msgspec

EVERY_S = 0.4
TIMEOUT_S = 5.0


class _AsOf(msgspec.Struct):
    as_of: datetime | None = None


class Probe:
    """`usage_as_of` and `checks_as_of`: everything answered 202 before is in usage, or in checks. Run `watch` as a task."""

    def __init__(self, session: aiohttp.ClientSession, *, meter: str, customer: str, feature: str) -> None:
        self._session = session
        self._usage = {"meter": meter, "customer": customer}
        self._check = {"customer": customer, "feature": feature}
        self._changed = asyncio.Event()
        self.usage_as_of: datetime | None = None
        self.checks_as_of: datetime | None = None

    async def watch(self) -> None:
        while True:
            await asyncio.gather(self._ask_usage(), self._ask_check())
            self._changed.set()
            await asyncio.sleep(EVERY_S)

    def shows(self, instant: datetime) -> bool:
        """Whether everything answered 202 before `instant` is visible everywhere."""
        return (
            self.usage_as_of is not None
            and self.checks_as_of is not None
            and min(self.usage_as_of, self.checks_as_of) >= instant
        )

    async def seconds_until_visible(self, instant: datetime) -> float:
        """Waits until `shows(instant)`."""
        began = time.monotonic()
        while not self.shows(instant):
            self._changed.clear()
            await self._changed.wait()
        return time.monotonic() - began

    async def _ask_usage(self) -> None:
        self.usage_as_of = await self._as_of(self._session.get("/v1/usage", params=self._usage)) or self.usage_as_of

    async def _ask_check(self) -> None:
        self.checks_as_of = await self._as_of(self._session.post("/v1/check", json=self._check)) or self.checks_as_of

    async def _as_of(self, request: "aiohttp.client._RequestContextManager") -> datetime | None:
        try:
            async with asyncio.timeout(TIMEOUT_S), request as answer:
                body = await answer.read()
                return msgspec.json.decode(body, type=_AsOf).as_of if answer.ok else None
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
