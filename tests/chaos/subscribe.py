"""Contracts made while everything fails: asked again under the same key until they are answered."""

import asyncio
from datetime import datetime
from http import HTTPStatus
from typing import Any

import aiohttp

from tests.chaos.contracts import alias_of

WITHIN_S = 120.0
AGAIN_S = 0.5


class Subscriptions:
    """Customers of the hourly plan, from an instant in the past on."""

    def __init__(self, session: aiohttp.ClientSession, start_at: datetime) -> None:
        self._session = session
        self._start_at = start_at

    async def add(self, customer: str) -> None:
        """The customer, whose events have long come in, and its subscription. TimeoutError after WITHIN_S."""
        async with asyncio.timeout(WITHIN_S):
            await self._insist("/v1/customers", {"external_id": customer, "aliases": [alias_of(customer)]})
            held = {"customer": customer, "plan": "hourly", "start_at": self._start_at.isoformat()}
            await self._insist("/v1/subscriptions", held)

    async def _insist(self, path: str, body: dict[str, Any]) -> None:
        """Protected by an idempotency key: whatever became of an unanswered attempt, there is one object in the end."""
        headers = {"Idempotency-Key": f"{path} {body}"[:200]}
        while True:
            try:
                async with self._session.post(path, json=body, headers=headers) as answer:
                    text = await answer.text()
            except (aiohttp.ClientError, TimeoutError, OSError):
                await asyncio.sleep(AGAIN_S)
                continue
            if answer.ok:
                return
            if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR and answer.status != HTTPStatus.TOO_MANY_REQUESTS:
                raise AssertionError(f"POST {path}: {answer.status} {text}")
            await asyncio.sleep(AGAIN_S)
