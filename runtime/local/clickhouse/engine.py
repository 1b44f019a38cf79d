"""The engine in this process: a pool of connections, each of which runs one statement at a time."""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import chdb

from runtime.local.clickhouse.failures import (
    BAD_ARGUMENTS,
    TOO_MANY_SIMULTANEOUS_QUERIES,
    EngineError,
    from_engine,
    refusal,
)

# What a server does and the library does otherwise, and the bound on one statement's memory.
_BASE = {"implicit_select": "0", "async_insert": "0", "max_memory_usage": str(4 * 1024**3)}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

_RAISED = (chdb.ChdbError, RuntimeError)


def quoted(text: str, quote: str = "'") -> str:
    return quote + text.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote


class Connection:
    """One chDB connection, and what is set on it, so that a statement sees exactly its own settings."""

    def __init__(self, path: Path) -> None:
        self._handle = chdb.connect(str(path))
        self._applied: dict[str, str] = {}
        self.database = "default"
        self.spoiled = False
        self.apply({}, "default")

    def fits(self, settings: Mapping[str, str], database: str) -> bool:
        return self.database == database and self._applied == {**_BASE, **settings}

    def apply(self, settings: Mapping[str, str], database: str) -> None:
        """Makes `settings` over the base, and nothing else, hold for the next statement of this connection."""
        wanted = {**_BASE, **settings}
        changes = [f"{name} = {quoted(value)}" for name, value in wanted.items() if self._applied.get(name) != value]
        changes += [f"{name} = DEFAULT" for name in self._applied if name not in wanted]
        if not changes and self.database == database:
            return
        for name in settings:
            if not _NAME.match(name):
                raise refusal(BAD_ARGUMENTS, "BAD_ARGUMENTS", f"Invalid setting name {name!r}")
        # Whatever fails half-way leaves an unknown mixture: such a connection is not used again.
        self.spoiled = True
        if self.database != database:
            self.query(f"USE {quoted(database, '`')}", "Null")
        if changes:
            self.query(f"SET {', '.join(changes)}", "Null")
        self._applied, self.database = wanted, database
        self.spoiled = settings.get("readonly", "0") != "0"  # a read-only connection refuses every later SET

    def query(self, sql: str, fmt: str, parameters: Mapping[str, str] | None = None) -> Any:
        """Runs to the end and returns chDB's result (bytes, rows read and written). Raises EngineError."""
        try:
            return self._handle.query(sql, fmt, params=dict(parameters or {}))
        except _RAISED as error:
            raise from_engine(str(error)) from None

    def stream(self, sql: str, fmt: str, parameters: Mapping[str, str]) -> Any:
        """Begins a SELECT; the stream must be read to its end or cancelled before anything else runs here."""
        try:
            return self._handle.send_query(sql, fmt, params=dict(parameters))
        except _RAISED as error:
            raise from_engine(str(error)) from None

    def close(self) -> None:
        self._handle.close()


def next_chunk(stream: Any) -> Any | None:
    """The next block of a stream, None at its end. Raises EngineError."""
    try:
        return stream.fetch()
    except _RAISED as error:
        raise from_engine(str(error)) from None


class Pool:
    """Connections by demand, up to `size`; idle ones whose settings fit are preferred, so that few need a SET."""

    def __init__(self, path: Path, size: int) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._size = size
        self._lock = threading.Lock()
        # One connection stays open for as long as the process runs: the engine shuts down with its last one.
        self._anchor = Connection(path)
        self._anchor_lock = threading.Lock()
        self._idle: list[Connection] = []
        self._busy = 0

    @contextmanager
    def connection(self, settings: Mapping[str, str], database: str) -> Iterator[Connection]:
        """A connection on which exactly `settings` hold. The caller bounds how many are taken at once."""
        connection = self.take(settings, database)
        try:
            yield connection
        finally:
            self.give(connection)

    def take(self, settings: Mapping[str, str], database: str) -> Connection:
        connection = self._pick(settings, database)
        try:
            connection.apply(settings, database)
        except EngineError:
            self.give(connection)
            raise
        return connection

    def _pick(self, settings: Mapping[str, str], database: str) -> Connection:
        with self._lock:
            if self._busy >= self._size:
                raise refusal(
                    TOO_MANY_SIMULTANEOUS_QUERIES,
                    "TOO_MANY_SIMULTANEOUS_QUERIES",
                    f"Too many simultaneous queries. Maximum: {self._size}",
                )
            self._busy += 1
            for at in range(len(self._idle) - 1, -1, -1):
                if self._idle[at].fits(settings, database):
                    return self._idle.pop(at)
            if self._idle and len(self._idle) + self._busy > self._size:
                return self._idle.pop()
        try:
            return Connection(self._path)
        except BaseException:
            with self._lock:
                self._busy -= 1
            raise

    def give(self, connection: Connection) -> None:
        if connection.spoiled:
            connection.close()
        with self._lock:
            self._busy -= 1
            if not connection.spoiled:
                self._idle.append(connection)

    def ask(self, sql: str) -> str:
        """A short statement of this process itself, beside everything that runs."""
        with self._anchor_lock:
            return bytes(self._anchor.query(sql, "TabSeparatedRaw").bytes()).decode().strip()

    def close(self) -> None:
        """Closes what is idle; the engine writes down what it still holds when the last connection goes."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()
        self._anchor.close()
