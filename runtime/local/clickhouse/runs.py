"""Running one statement: what goes to the engine, and what comes back, in bounded memory."""

import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from runtime.local.clickhouse.engine import Connection, Pool, next_chunk, quoted
from runtime.local.clickhouse.failures import EngineError
from runtime.local.clickhouse.native import header_block
from runtime.local.clickhouse.spool import Bytes, Spool
from runtime.local.clickhouse.statement import Statement

# Formats whose blocks can simply follow one another; chDB begins every chunk of a stream anew.
_STREAMABLE = frozenset(
    {"Native", "TabSeparated", "TSV", "TabSeparatedRaw", "TSVRaw", "CSV", "JSONEachRow", "RowBinary"}
)
_RESULT_LIMIT_BYTES = 16 * 1024**3


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A statement with all that belongs to it. `data` is the file of an INSERT's rows, removed by its owner."""

    statement: Statement
    parameters: Mapping[str, str]
    settings: Mapping[str, str]
    database: str
    default_format: str
    whole: bool  # the client waits for the end of the query: no streamed answer
    data: Path | None = None
    tag: str = msgspec.field(default_factory=lambda: secrets.token_hex(8))


class Summary:
    """The counts of X-ClickHouse-Summary."""

    def __init__(self) -> None:
        self.read_rows = 0
        self.read_bytes = 0
        self.written_rows = 0
        self.written_bytes = 0
        self.result_rows = 0

    def add(self, result: Any) -> None:
        self.read_rows += result.storage_rows_read()
        self.read_bytes += result.storage_bytes_read()
        self.written_rows += result.rows_written()
        self.written_bytes += result.bytes_written()
        self.result_rows += result.rows_read()

    def as_json(self) -> bytes:
        names = ("read_rows", "read_bytes", "written_rows", "written_bytes", "result_rows")
        return msgspec.json.encode({name: str(getattr(self, name)) for name in names})


class Stream:
    """A SELECT under way: `next` blocks for the next piece. It owns its connection until `close`."""

    def __init__(self, pool: Pool, connection: Connection, source: Any, first: tuple[bytes, ...]) -> None:
        self._pool = pool
        self._connection: Connection | None = connection
        self._source = source
        self._first = deque(first)
        self._lock = threading.Lock()

    def next(self) -> bytes | None:
        """Raises EngineError, after pieces that were already handed out."""
        if self._first:
            return self._first.popleft()
        chunk = next_chunk(self._source)
        return None if chunk is None else bytes(chunk.bytes())

    def close(self) -> None:
        """Ends the query, wherever it is, and gives the connection back; safe to repeat."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            try:
                self._source.close()
            except RuntimeError:
                connection.spoiled = True
            self._pool.give(connection)


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: `format` is None where the statement has no result."""

    format: str | None
    summary: Summary
    body: bytes | Bytes | Stream = b""


class Runner:
    """Runs jobs, one a call, in the caller's thread. Raises EngineError."""

    def __init__(self, pool: Pool, spool: Spool) -> None:
        self._pool = pool
        self._spool = spool

    def run(self, job: Job) -> Reply:
        match job.statement.kind:
            case "insert":
                return self._with_connection(job, self._insert)
            case "select":
                return self._select(job)
            case "session":
                return self._with_connection(job, self._session)
            case _:
                return self._with_connection(job, self._whole)

    def kill(self, tag: str) -> None:
        """Stops the running query with this tag, if there is one."""
        self._pool.ask(f"KILL QUERY WHERE endsWith(query, '/* {tag} */') ASYNC")

    def _with_connection(self, job: Job, act: Callable[[Connection, Job], Reply]) -> Reply:
        with self._pool.connection(job.settings, job.database) as connection:
            return act(connection, job)

    def _insert(self, connection: Connection, job: Job) -> Reply:
        statement = job.statement
        # The rows are a whole file by now: a body that was cut off never gets here (protocol 2).
        sql = (
            f"{statement.head} FROM INFILE {quoted(str(job.data))} COMPRESSION 'none'"
            f" {statement.tail} FORMAT {statement.format}"
        )
        summary = Summary()
        summary.add(connection.query(sql, "Null", job.parameters))
        return Reply(format=None, summary=summary)

    def _session(self, connection: Connection, job: Job) -> Reply:
        # Without sessions SET and USE end with their request: they are tried, and the connection is thrown away.
        connection.spoiled = True
        return self._whole(connection, job)

    def _whole(self, connection: Connection, job: Job) -> Reply:
        statement = job.statement
        fmt = statement.format or job.default_format
        result = connection.query(_sql(job, fmt if statement.format else None), fmt, job.parameters)
        summary = Summary()
        summary.add(result)
        body = bytes(result.bytes() or b"")
        if statement.kind == "show" and not body and fmt == "Native":
            body = header_block(connection, job.statement, job.parameters)
        return Reply(format=fmt if statement.kind == "show" or body else None, summary=summary, body=body)

    def _select(self, job: Job) -> Reply:
        fmt = job.statement.format or job.default_format
        connection = self._pool.take(job.settings, job.database)
        reply: Reply | None = None
        try:
            if fmt in _STREAMABLE:
                reply = self._streamed(connection, job, fmt)
            elif fmt == "Null":
                reply = self._whole(connection, job)
            else:
                reply = self._by_file(connection, job, fmt)
        finally:
            if reply is None or not isinstance(reply.body, Stream):
                self._pool.give(connection)
        return reply

    def _by_file(self, connection: Connection, job: Job, fmt: str) -> Reply:
        """Formats with one header and footer (Arrow, Parquet, JSON) are written by the engine, not held in memory."""
        answer = Bytes(self._spool, _RESULT_LIMIT_BYTES)
        path = answer.as_file()
        path.unlink()  # the engine refuses to write to a file that exists
        summary = Summary()
        try:
            summary.add(connection.query(_sql(job, fmt, outfile=path), fmt, job.parameters))
        except EngineError:
            answer.close()
            raise
        return Reply(format=fmt, summary=summary, body=answer.settled())

    def _streamed(self, connection: Connection, job: Job, fmt: str) -> Reply:
        source = connection.stream(_sql(job, fmt), fmt, job.parameters)
        summary = Summary()
        try:
            chunk = next_chunk(source)
            if chunk is None:
                body = header_block(connection, job.statement, job.parameters) if fmt == "Native" else b""
                return Reply(format=fmt, summary=summary, body=body)
            summary.add(chunk)
            if job.whole:
                return Reply(format=fmt, summary=summary, body=self._collected(source, chunk, summary))
            first, second = bytes(chunk.bytes()), next_chunk(source)
            if second is None:
                return Reply(format=fmt, summary=summary, body=first)
            stream = Stream(self._pool, connection, source, (first, bytes(second.bytes())))
            return Reply(format=fmt, summary=summary, body=stream)
        except EngineError:
            source.close()
            raise

    def _collected(self, source: Any, chunk: Any, summary: Summary) -> bytes | Bytes:
        answer = Bytes(self._spool, _RESULT_LIMIT_BYTES)
        try:
            answer.write(bytes(chunk.bytes()))
            while (chunk := next_chunk(source)) is not None:
                summary.add(chunk)
                answer.write(bytes(chunk.bytes()))
        except EngineError:
            answer.close()
            raise
        return answer.settled()


def _sql(job: Job, fmt: str | None, outfile: Path | None = None) -> str:
    """The statement with its output, and last the tag by which a running query is found again."""
    statement = job.statement
    into = f" INTO OUTFILE {quoted(str(outfile))}" if outfile is not None else ""
    clause = f"\nFORMAT {fmt}" if fmt is not None else ""
    return f"{statement.head}{into}{clause} {statement.tail} /* {job.tag} */"
