"""Something between a process and a server that can be cut, held, delayed, and that loses what it is told to lose.

A `Link` passes bytes. An `InsertLink` reads HTTP as far as it must to tell an INSERT, which it can refuse before the server
sees it, deliver late, or let happen and lose the answer of.
"""

import asyncio
import contextlib
from collections import Counter, deque
from enum import StrEnum
from typing import Self

HOST = "127.0.0.1"
CHUNK_BYTES = 256 << 10
HEAD_MAX_BYTES = 4 << 20
ERROR_BODY = b"Code: 241. DB::Exception: Memory limit exceeded (by the test). (MEMORY_LIMIT_EXCEEDED)\n"
ERROR_ANSWER = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain; charset=UTF-8\r\nX-ClickHouse-Exception-Code: 241\r\n"
    b"Content-Length: " + str(len(ERROR_BODY)).encode() + b"\r\n\r\n" + ERROR_BODY
)


class Fate(StrEnum):
    """What becomes of one INSERT."""

    REFUSED = "insert_refused"  # the server never sees it, the client's connection ends
    ANSWERED_ERROR = "insert_error"  # the server never sees it, the client is answered a passing error
    ANSWER_LOST = "insert_answer_lost"  # the server wrote, the client's connection ends without an answer
    LATE = "insert_late"  # delivered after a while, whether or not the client still waits


class Connection:
    """A client's connection and ours to the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.loses_answer = False

    def abort(self) -> None:
        for writer in (self.client, self.server):
            writer.transport.abort()


class Link:
    """One listening port before one server. `open` first, `aim` before the first client comes, `close` at the end.

    `cut`: connections end and new ones are refused. `hold`: they stay open and nothing passes, as when packets are lost;
    what was written meanwhile arrives after `mend`, even of clients that have gone. `delay`: each piece takes so long.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.happened: Counter[str] = Counter()
        self._target = ("", 0)
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._passable = asyncio.Event()
        self._passable.set()
        self._is_cut = False
        self._delay_s = 0.0

    async def open(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, 0, limit=HEAD_MAX_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def aim(self, host: str, port: int) -> None:
        self._target = (host, port)

    def cut(self) -> None:
        self._is_cut = True
        for connection in list(self._connections):
            connection.abort()

    def hold(self) -> None:
        self._passable.clear()

    def delay(self, seconds: float) -> None:
        self._delay_s = seconds

    def mend(self) -> None:
        self._is_cut = False
        self._delay_s = 0.0
        self._passable.set()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for serving in list(self._serving):
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _accept(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._serve(client_reader, client)
        finally:
            self._serving.discard(task)
            client.transport.abort()

    async def _serve(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self._is_cut:
            return
        await self._passable.wait()
        try:
            server_reader, server = await asyncio.open_connection(*self._target)
        except OSError:
            return
        connection = Connection(client, server)
        self._connections.add(connection)
        ways = [
            asyncio.ensure_future(self._forth(client_reader, connection)),
            asyncio.ensure_future(self._back(server_reader, connection)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._connections.discard(connection)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            server.transport.abort()

    async def _forth(self, reader: asyncio.StreamReader, connection: Connection) -> None:
        while piece := await reader.read(CHUNK_BYTES):
            await self._pass(piece, connection.server)

    async def _back(self, reader: asyncio.StreamReader, connection: Connection) -> None:
        while piece := await reader.read(CHUNK_BYTES):
            if connection.loses_answer:
                self.happened[Fate.ANSWER_LOST] += 1
                return
            await self._pass(piece, connection.client)

    async def _pass(self, piece: bytes, writer: asyncio.StreamWriter) -> None:
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        await self._passable.wait()
        writer.write(piece)
        with contextlib.suppress(ConnectionError):  # an answer to a client that has gone
            await writer.drain()


class InsertLink(Link):
    """A link to ClickHouse whose next INSERTs can be given a fate each."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._fates: deque[tuple[Fate, float, bytes]] = deque()

    def next_insert(self, fate: Fate, *, times: int = 1, late_s: float = 0.0, table: str = "") -> None:
        """What becomes of the next `times` INSERTs (into `table`, as `events`, if given): first come, first served."""
        wanted = f"INSERT INTO default.{table} ".encode() if table else b"INSERT INTO "
        self._fates.extend([(fate, late_s, wanted)] * times)

    def forget_inserts(self) -> None:
        """What has no INSERT yet comes to none."""
        self._fates.clear()

    async def _forth(self, reader: asyncio.StreamReader, connection: Connection) -> None:
        """Requests one after the other: clients of ClickHouse do not pipeline. Ends with the client."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                left = _content_length(head)
                if left is None:
                    await self._pass(head, connection.server)
                    return await super()._forth(reader, connection)
                body = await reader.readexactly(min(left, CHUNK_BYTES))
                left -= len(body)
                fate, late_s = self._fate(head, body)
                if fate is Fate.REFUSED:
                    return None
                if fate is Fate.ANSWERED_ERROR:
                    await reader.readexactly(left)
                    await self._pass(ERROR_ANSWER, connection.client)
                    continue
                if fate is Fate.LATE:
                    body += await reader.readexactly(left)  # all of it: the client may go meanwhile
                    left = 0
                    await asyncio.sleep(late_s)
                connection.loses_answer = fate is Fate.ANSWER_LOST
                await self._pass(head + body, connection.server)
                while left:
                    piece = await reader.readexactly(min(left, CHUNK_BYTES))
                    left -= len(piece)
                    await self._pass(piece, connection.server)

    def _fate(self, head: bytes, body: bytes) -> tuple[Fate | None, float]:
        if not self._fates:
            return None, 0.0
        fate, late_s, wanted = self._fates[0]
        statement = body[:HEAD_MAX_BYTES].replace(b"`", b"").lstrip()
        in_url = head.split(b"\r\n", 1)[0].replace(b"%20", b" ").replace(b"+", b" ").replace(b"%60", b"")
        if not statement.startswith(wanted) and wanted not in in_url:
            return None, 0.0
        self._fates.popleft()
        if fate is not Fate.ANSWER_LOST:  # counted once it has happened
            self.happened[fate] += 1
        return fate, late_s


def _content_length(head: bytes) -> int | None:
    """Bytes of the body; None when only its end will tell."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        match name.strip().lower():
            case b"content-length":
                return int(value)
            case b"transfer-encoding":
                return None
    return 0
