"""Answers to requests: which lane a statement waits in, what runs in a thread, what a client is told."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from runtime.local.clickhouse.engine import Pool
from runtime.local.clickhouse.failures import TOO_MANY_SIMULTANEOUS_QUERIES, EngineError, refusal
from runtime.local.clickhouse.request import Prepared, Request, prepare
from runtime.local.clickhouse.runs import Job, Reply, Runner, Stream
from runtime.local.clickhouse.spool import Bytes, Spool

_INLINE_BYTES = 16 * 1024


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the process; each lane has its own connections, so scans never hold up inserts, nor inserts reads."""

    readers: int = 8
    inserters: int = 4
    others: int = 4
    waiting: int = 256  # statements in a lane's queue
    body_bytes: int = 1024**3  # of one request, also decompressed


class Pieces:
    """A long body: `read` blocks for its next part. Whoever got it must `close` it."""

    def __init__(
        self, threads: ThreadPoolExecutor, read: Callable[[], bytes | None], close: Callable[[], None]
    ) -> None:
        self._threads = threads
        self._read = read
        self._close = close

    async def next(self) -> bytes | None:
        """None at the end. Raises EngineError when the statement fails on the way."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read)

    async def close(self) -> None:
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._threads, self._close))


class Answer(msgspec.Struct, kw_only=True):
    """What goes back: a short body, or pieces of a long one."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    pieces: Pieces | None = None


class Lane:
    """At most `size` statements at once, at most `waiting` behind them."""

    def __init__(self, size: int, waiting: int) -> None:
        self._free = asyncio.Semaphore(size)
        self._waiting = waiting
        self._queued = 0

    async def enter(self) -> None:
        if self._queued >= self._waiting:
            raise refusal(
                TOO_MANY_SIMULTANEOUS_QUERIES,
                "TOO_MANY_SIMULTANEOUS_QUERIES",
                f"Too many simultaneous queries: {self._queued} are waiting",
            )
        self._queued += 1
        try:
            await self._free.acquire()
        finally:
            self._queued -= 1

    def leave(self) -> None:
        self._free.release()


class Facade:
    """The engine behind requests: one for the process."""

    def __init__(self, data: Path, limits: Limits) -> None:
        self._limits = limits
        self._spool = Spool(data / "spool")
        width = limits.readers + limits.inserters + limits.others
        self._pool = Pool(data / "engine", width)
        self._runner = Runner(self._pool, self._spool)
        self._lanes = {
            "select": Lane(limits.readers, limits.waiting),
            "insert": Lane(limits.inserters, limits.waiting),
            "other": Lane(limits.others, limits.waiting),
        }
        self._lanes["show"] = self._lanes["select"]
        self._lanes["session"] = self._lanes["other"]
        self._threads = ThreadPoolExecutor(width, thread_name_prefix="statement")
        self._bodies = ThreadPoolExecutor(2, thread_name_prefix="body")
        self._version = self._pool.ask("SELECT version()")
        self._timezone = self._pool.ask("SELECT timezone()")

    def new_body(self) -> Bytes:
        return Bytes(self._spool, self._limits.body_bytes)

    async def answer(self, request: Request, lost: asyncio.Event) -> Answer:
        """Never raises EngineError. `lost` says that the client has gone; a statement that only reads then stops."""
        if request.method not in ("GET", "HEAD", "POST", "PUT"):
            return _text(405, "Method not allowed\n")
        if request.method in ("GET", "HEAD") and not request.arguments:
            known = request.path in ("/", "/ping", "/replicas_status")
            return _text(200, "Ok.\n") if known else _text(404, f"There is no handle {request.path}\n")
        prepared: Prepared | None = None
        try:
            prepared = await self._prepare(request)
            return await self._run(prepared, lost)
        except EngineError as error:
            return self.failed(error, "" if prepared is None else prepared.query_id)
        finally:
            if prepared is not None and prepared.rows is not None:
                await asyncio.get_running_loop().run_in_executor(self._bodies, prepared.rows.close)

    async def _prepare(self, request: Request) -> Prepared:
        if request.body.size <= _INLINE_BYTES and "content-encoding" not in request.headers:
            return prepare(request, self._spool, self._limits.body_bytes)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._bodies, prepare, request, self._spool, self._limits.body_bytes)

    async def _run(self, prepared: Prepared, lost: asyncio.Event) -> Answer:
        job = prepared.job
        lane = self._lanes[job.statement.kind]
        await lane.enter()
        streaming = False
        try:
            reply = await self._in_thread(job, lost)
            answer = self._answered(prepared.query_id, reply)
            if isinstance(reply.body, Stream):
                streaming = True
                answer.pieces = self._stream_pieces(reply.body, lane)
            elif isinstance(reply.body, Bytes):
                answer.pieces = self._file_pieces(reply.body)
            else:
                answer.body = reply.body
            return answer
        finally:
            if not streaming:
                lane.leave()

    async def _in_thread(self, job: Job, lost: asyncio.Event) -> Reply:
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._threads, self._runner.run, job)
        if not job.statement.read_only:
            return await running
        gone = loop.create_task(lost.wait())
        try:
            await asyncio.wait((running, gone), return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                await loop.run_in_executor(self._bodies, self._runner.kill, job.tag)
            return await running
        finally:
            gone.cancel()

    def _stream_pieces(self, stream: Stream, lane: Lane) -> Pieces:
        loop = asyncio.get_running_loop()

        def close() -> None:
            stream.close()
            loop.call_soon_threadsafe(lane.leave)

        return Pieces(self._threads, stream.next, close)

    def _file_pieces(self, body: Bytes) -> Pieces:
        chunks = body.chunks()
        return Pieces(self._bodies, lambda: next(chunks, None), body.close)

    def _answered(self, query_id: str, reply: Reply) -> Answer:
        headers = [
            ("Content-Type", "text/plain; charset=UTF-8" if reply.format is None else _content_type(reply.format)),
            ("X-ClickHouse-Query-Id", query_id),
            ("X-ClickHouse-Timezone", self._timezone),
            ("X-ClickHouse-Summary", reply.summary.as_json().decode()),
        ]
        if reply.format is not None:
            headers.append(("X-ClickHouse-Format", reply.format))
        return Answer(status=200, headers=headers)

    def failed(self, error: EngineError, query_id: str = "") -> Answer:
        text = f"{error.text} (version {self._version})\n"
        headers = [
            ("Content-Type", "text/plain; charset=UTF-8"),
            ("X-ClickHouse-Exception-Code", str(error.code)),
            ("X-ClickHouse-Query-Id", query_id),
        ]
        return Answer(status=error.status, headers=headers, body=text.encode())

    def close(self) -> None:
        """After the last statement: the engine writes down what it holds."""
        self._threads.shutdown()
        self._bodies.shutdown()
        self._pool.close()


def _text(status: int, body: str) -> Answer:
    return Answer(status=status, headers=[("Content-Type", "text/plain; charset=UTF-8")], body=body.encode())


def _content_type(fmt: str) -> str:
    if fmt.startswith("JSON"):
        return "application/json; charset=UTF-8"
    if fmt.startswith(("TabSeparated", "TSV")):
        return "text/tab-separated-values; charset=UTF-8"
    return "application/octet-stream"
