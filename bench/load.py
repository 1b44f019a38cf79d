"""The load generator: requests encoded beforehand, on keep-alive connections, one request at a time on each.

It must not be the bottleneck: what it reaches against a server that does nothing (`empty_server.py`) is printed.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import msgspec

from bench.figures import percentile

ANSWER_WITHIN_S = 30.0
_MS = 1000
_SHOWN = 300


class BenchError(Exception):
    """Why a scenario cannot be measured, in one sentence."""


class Answer(msgspec.Struct, frozen=True):
    status: int
    body: bytes


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What a phase of load did: its length and each request's duration."""

    seconds: float
    latencies_s: list[float]

    @property
    def requests(self) -> int:
        return len(self.latencies_s)

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    def latency_ms(self, percent: float) -> float:
        return percentile(self.latencies_s, percent) * _MS


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where requests go and as whom."""

    host: str
    port: int
    api_key: str = ""

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The bytes of a whole request."""
        head = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}", f"Content-Length: {len(body)}"]
        if self.api_key:
            head.append(f"Authorization: Bearer {self.api_key}")
        if body:
            head.append("Content-Type: application/json")
        return "\r\n".join([*head, "", ""]).encode() + body


def target_of(url: str, api_key: str) -> Target:
    parts = urlsplit(url)
    return Target(host=parts.hostname or "", port=parts.port or 0, api_key=api_key)


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on its way."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []

    async def ask(self, request: bytes) -> Answer:
        """Raises BenchError when the connection breaks or nothing comes back in time."""
        if self._transport is None or self.is_closed:
            raise BenchError("the server has closed the connection")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._answer = answer
        watch = loop.call_later(ANSWER_WITHIN_S, self._overdue, answer)
        self._transport.write(request)
        try:
            return await answer
        finally:
            watch.cancel()

    @property
    def is_closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its class

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection was lost: {exc!r}")

    # httptools' side

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body, self._body = b"".join(self._body), []
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(self._parser.get_status_code(), body))

    def _overdue(self, answer: "asyncio.Future[Answer]") -> None:
        if answer is self._answer:
            self._fail(f"no answer within {ANSWER_WITHIN_S:g} s")
            self.close()

    def _fail(self, reason: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(BenchError(reason))


async def opened(target: Target) -> Connection:
    try:
        _, connection = await asyncio.get_running_loop().create_connection(Connection, target.host, target.port)
    except OSError as error:
        raise BenchError(f"{target.host}:{target.port} does not answer: {error}") from error
    return connection


class EventStream(Connection):
    """A connection on which server-sent events come: each (name, data) goes to `on_event`."""

    def __init__(self, on_event: Callable[[str, bytes], None]) -> None:
        super().__init__()
        self._on_event = on_event
        self._text = b""

    def listen(self, request: bytes) -> None:
        if self._transport is None:
            raise BenchError("the stream is not connected")
        self._transport.write(request)

    def on_body(self, body: bytes) -> None:
        *frames, self._text = (self._text + body).split(b"\n\n")
        for frame in frames:
            lines = (line.partition(b": ") for line in frame.split(b"\n"))
            fields = {name: value for name, _, value in lines}
            self._on_event(fields.get(b"event", b"").decode(), fields.get(b"data", b""))


@asynccontextmanager
async def listening(target: Target, path: str, on_event: Callable[[str, bytes], None]) -> AsyncIterator[None]:
    """Inside, the server-sent events of `path` go to `on_event`."""
    loop = asyncio.get_running_loop()
    _, stream = await loop.create_connection(lambda: EventStream(on_event), target.host, target.port)
    try:
        stream.listen(target.request("GET", path))
        yield
    finally:
        stream.close()


@asynccontextmanager
async def connected(target: Target, clients: int) -> AsyncIterator[list[Connection]]:
    """`clients` open connections."""
    connections: list[Connection] = []
    try:
        while len(connections) < clients:
            connections.append(await opened(target))
        yield connections
    finally:
        for connection in connections:
            connection.close()


def check_status(answer: Answer, expected: int) -> Answer:
    """Raises BenchError for any other answer: what is refused must not count as fast."""
    if answer.status != expected:
        raise BenchError(f"answer {answer.status} instead of {expected}: {answer.body[:_SHOWN]!r}")
    return answer


async def drive(
    connections: Iterable[Connection], requests: Iterable[bytes], *, expected: int, within_s: float | None = None
) -> Load:
    """Send `requests` over all connections at once, each the next one as soon as its last was answered.

    Ends when they are used up, or when `within_s` is over. Raises BenchError at the first other status.
    """
    waiting = iter(requests)
    begun = time.perf_counter()
    until = begun + within_s if within_s is not None else float("inf")
    clients = [asyncio.ensure_future(_client(one, waiting, expected, until)) for one in connections]
    try:
        latencies = [latency for part in await asyncio.gather(*clients) for latency in part]
    finally:
        for client in clients:
            client.cancel()
    seconds = time.perf_counter() - begun
    if not latencies:
        raise BenchError("there was nothing to send")
    return Load(seconds=seconds, latencies_s=latencies)


async def pace(
    connections: Iterable[Connection],
    requests: Iterator[bytes],
    *,
    expected: int,
    per_second: float,
    go_on: Callable[[], bool],
) -> Load:
    """Send `requests` at a steady rate, whatever the answers take, as long as `go_on` says so.

    A request that no connection is free for waits, and its duration counts from when it was due. Raises BenchError at the
    first other status.
    """
    begun = time.perf_counter()
    numbers = itertools.count()
    latencies: list[float] = []

    async def client(connection: Connection) -> None:
        while go_on():
            due = begun + next(numbers) / per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            check_status(await connection.ask(next(requests)), expected)
            latencies.append(time.perf_counter() - due)

    async with asyncio.TaskGroup() as group:
        for connection in connections:
            group.create_task(client(connection))
    return Load(seconds=time.perf_counter() - begun, latencies_s=latencies)


async def _client(connection: Connection, waiting: Iterator[bytes], expected: int, until: float) -> list[float]:
    latencies: list[float] = []
    now = time.perf_counter()
    for request in waiting:
        answer = await connection.ask(request)
        if answer.status != expected:
            check_status(answer, expected)
        before, now = now, time.perf_counter()
        latencies.append(now - before)
        if now >= until:
            break
    return latencies


class Caller:
    """Single calls that answer with JSON, for the set-up and for polling."""

    def __init__(self, target: Target, connection: Connection) -> None:
        self._target = target
        self._connection = connection

    async def call(self, method: str, path: str, body: object = None) -> Any:
        encoded = b"" if body is None else msgspec.json.encode(body)
        if self._connection.is_closed:  # the server ends connections that say nothing for half a minute
            self._connection = await opened(self._target)
        answer = await self._connection.ask(self._target.request(method, path, encoded))
        if answer.status >= 300:
            raise BenchError(f"{method} {path}: {answer.status} {answer.body[:_SHOWN]!r}")
        return msgspec.json.decode(answer.body)
