"""The product's API as any customer would use it: HTTP and a key."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

CLIENTS = 6
RETRY_S = 0.5
RETRIES = 120


class Client:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def get(self, path: str, **query: str) -> Any:
        async with self._session.get(path, params=query) as answer:
            body = await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"GET {path}: {answer.status} {body.decode()}")
            return msgspec.json.decode(body)

    async def send(self, method: str, path: str, body: Any) -> Any:
        async with self._session.request(method, path, json=body) as answer:
            text = await answer.read()
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {answer.status} {text.decode()}")
            return msgspec.json.decode(text)

    async def all(self, path: str, **query: str) -> list[Any]:
        """Every page of a list."""
        items: list[Any] = []
        cursor = ""
        while True:
            page = await self.get(path, limit="200", **query, **({"cursor": cursor} if cursor else {}))
            items += page["items"]
            cursor = page["next_cursor"]
            if not cursor:
                return items

    async def send_events(self, body: bytes) -> int:
        """How many were accepted. A request that is refused for the moment (429, 503) is sent again: that is safe."""
        for _ in range(RETRIES):
            headers = {"Content-Type": "application/json"}
            async with self._session.post("/v1/events", data=body, headers=headers) as answer:
                text = await answer.read()
                if answer.status == 202:
                    accepted = msgspec.json.decode(text)
                    if accepted["rejected"]:
                        raise RuntimeError(f"events were rejected: {accepted['rejected'][:3]}")
                    return int(accepted["accepted"])
                if answer.status not in (429, 503):
                    raise RuntimeError(f"POST /v1/events: {answer.status} {text.decode()}")
            await asyncio.sleep(RETRY_S)
        raise RuntimeError("the API took no events for a minute")

    async def send_all(self, bodies: list[bytes]) -> int:
        """All bodies from CLIENTS concurrent clients; how many events were accepted."""
        waiting = iter(bodies)

        async def one_client() -> int:
            return sum([await self.send_events(body) for body in waiting])

        return sum(await asyncio.gather(*(one_client() for _ in range(CLIENTS))))


@asynccontextmanager
async def connected(url: str, api_key: str) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {api_key}"}
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(url, headers=headers, timeout=timeout) as session:
        yield Client(session)
