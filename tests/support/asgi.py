"""Requests to an ASGI application in this process, with answers that go on while the test reads them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec


class Answer:
    """Status and headers once they are there; `body()` waits for the end, `events()` reads server-sent events."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.started = asyncio.Event()
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._rest = b""

    async def send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            self.started.set()
        elif message["type"] == "http.response.body":
            await self._chunks.put(message.get("body", b""))
            if not message.get("more_body"):
                await self._chunks.put(None)

    async def body(self) -> bytes:
        parts = []
        while (chunk := await self._chunks.get()) is not None:
            parts.append(chunk)
        return b"".join(parts)

    async def json(self) -> Any:
        return msgspec.json.decode(await self.body())

    async def event(self, wanted: str, within_s: float) -> tuple[Any, str]:
        """The next event of this name: its data and its id; others before it are dropped."""
        async with asyncio.timeout(within_s):
            while True:
                while b"\n\n" not in self._rest:
                    chunk = await self._chunks.get()
                    assert chunk is not None, "the stream ended"
                    self._rest += chunk
                frame, self._rest = self._rest.split(b"\n\n", 1)
                fields = dict(line.split(": ", 1) for line in frame.decode().splitlines())
                if fields["event"] == wanted:
                    return msgspec.json.decode(fields["data"]), fields.get("id", "")


@asynccontextmanager
async def request(
    app: Any, method: str, url: str, headers: Mapping[str, str], body: bytes = b""
) -> AsyncIterator[Answer]:
    """One request; leaving the block is the client going away."""
    parts = urlsplit(url)
    gone = asyncio.Event()
    bodies = [{"type": "http.request", "body": body, "more_body": False}]
    answer = Answer()

    async def receive() -> Mapping[str, Any]:
        if bodies:
            return bodies.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": quote(parts.query, safe="=&%+,:.").encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    task = asyncio.create_task(app(scope, receive, answer.send))
    started = asyncio.create_task(answer.started.wait())
    await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield answer
    finally:
        gone.set()
        started.cancel()
        await asyncio.wait_for(task, 10)
