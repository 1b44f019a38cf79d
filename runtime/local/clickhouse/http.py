"""HTTP/1.1 on asyncio: requests in order on a connection, bodies to the spool, answers whole or in chunks."""

import asyncio
from collections import deque
from typing import cast

import httptools

from runtime.local.clickhouse.failures import EngineError
from runtime.local.clickhouse.request import Request
from runtime.local.clickhouse.server import Answer, Facade
from runtime.local.clickhouse.spool import Bytes

_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    411: "Length Required",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}
_CONNECTIONS = 1024
_PIPELINED = 8  # requests that may wait behind the one that runs
_HEADER_LIMIT_BYTES = 2 * 1024 * 1024
_TAG = "meterstreamfacad"  # 16 characters, as a server's


class Clients:
    """The open connections, for an orderly end: idle ones close at once, the others after their answer."""

    def __init__(self) -> None:
        self._open: set[Connection] = set()
        self._none = asyncio.Event()
        self._none.set()
        self.stopping = False

    def add(self, connection: "Connection") -> bool:
        """False when there are too many."""
        if len(self._open) >= _CONNECTIONS:
            return False
        self._open.add(connection)
        self._none.clear()
        return True

    def remove(self, connection: "Connection") -> None:
        self._open.discard(connection)
        if not self._open:
            self._none.set()

    async def stop(self) -> None:
        """Returns when every statement that was begun is answered and every connection closed."""
        self.stopping = True
        for connection in list(self._open):
            connection.close_when_idle()
        await self._none.wait()


class Connection(asyncio.Protocol):
    """One client. A request whose body ends early is dropped with its connection: nothing of it was run."""

    def __init__(self, facade: Facade, clients: Clients) -> None:
        self._facade = facade
        self._clients = clients
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._target = b""
        self._headers: dict[str, str] = {}
        self._header_bytes = 0
        self._body: Bytes | None = None
        self._failure: EngineError | None = None
        self._ready: deque[tuple[Request, bool, EngineError | None]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._can_write = asyncio.Event()
        self._can_write.set()
        self.lost = asyncio.Event()

    # --- transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio.Transport, but not its name.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=1024 * 1024)
        if not self._clients.add(self):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name for it
        self.lost.set()
        self._can_write.set()
        self._clients.remove(self)
        if self._body is not None:
            self._body.close()
        while self._ready:
            self._ready.popleft()[0].body.close()

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def close_when_idle(self) -> None:
        """Closes now if nothing runs here, else after the answer under way."""
        if self._worker is None and self._transport is not None:
            self._transport.close()

    # --- parser ---

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = {}
        self._header_bytes = 0
        self._failure = None
        self._body = self._facade.new_body()

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._count(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        self._count(name + value)

    def _count(self, data: bytes) -> None:
        self._header_bytes += len(data)
        if self._header_bytes > _HEADER_LIMIT_BYTES:
            self.abort()

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        if self._body is None or self._failure is not None:
            return
        try:
            self._body.write(data)
        except EngineError as error:
            self._failure = error
            self._body.close()

    def on_message_complete(self) -> None:
        body, self._body = self._body, None
        if body is None or self._transport is None:
            return
        request = Request(
            method=self._parser.get_method().decode(),
            target=self._target.decode("latin-1"),
            headers=self._headers,
            body=body,
        )
        self._ready.append((request, self._parser.should_keep_alive(), self._failure))
        if len(self._ready) > _PIPELINED:
            self._transport.pause_reading()  # (a paused transport does not notice that its client has gone)
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    # --- answers ---

    async def _work(self) -> None:
        sound = False
        try:
            while self._ready:
                request, keep_alive, failure = self._ready.popleft()
                try:
                    answer = (
                        await self._facade.answer(request, self.lost)
                        if failure is None
                        else self._facade.failed(failure)
                    )
                    keep_alive = await self._send(request, answer, keep_alive and not self._clients.stopping)
                finally:
                    request.body.close()
                if not keep_alive or self._clients.stopping:
                    self._close()
                    sound = True
                    return
            sound = True
        except ConnectionError:
            sound = False
        finally:
            self._worker = None
            if not sound:
                # The client has gone, or a defect is on its way to the log: an answer cut short must not look whole.
                self.abort()
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def _send(self, request: Request, answer: Answer, keep_alive: bool) -> bool:  # noqa: FBT001
        """True when the connection can be used again."""
        headers = [*answer.headers, ("Connection", "keep-alive" if keep_alive else "close")]
        pieces = answer.pieces
        if pieces is None:
            headers.append(("Content-Length", str(len(answer.body))))
            head = _head(answer.status, headers)
            await self._write(head if request.method == "HEAD" else head + answer.body)
            return keep_alive
        headers += [("Transfer-Encoding", "chunked"), ("X-ClickHouse-Exception-Tag", _TAG)]
        try:
            await self._write(_head(answer.status, headers))
            while (piece := await pieces.next()) is not None:
                await self._write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await self._write(b"0\r\n\r\n")
        except EngineError as error:
            # Too late for a status: the text goes into the stream, which then ends without its last chunk.
            text, tag = error.text.encode() + b"\n", _TAG.encode()
            tail = b"\r\n__exception__\r\n%b\r\n%b%d %b\r\n__exception__\r\n" % (tag, text, len(text), tag)
            await self._write(b"%x\r\n%b\r\n" % (len(tail), tail))
            return False
        finally:
            await pieces.close()
        return keep_alive

    async def _write(self, data: bytes) -> None:
        if self.lost.is_set() or self._transport is None:
            raise ConnectionResetError
        self._transport.write(data)
        await self._can_write.wait()


def _head(status: int, headers: list[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", errors="replace")
