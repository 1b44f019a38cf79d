"""From an HTTP request to a job: the parts of ClickHouse's HTTP interface that its clients use without a session."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import msgspec

from runtime.local.clickhouse.failures import (
    BAD_ARGUMENTS,
    NOT_IMPLEMENTED,
    QUERY_IS_TOO_LARGE,
    READONLY,
    EngineError,
    refusal,
)
from runtime.local.clickhouse.runs import Job
from runtime.local.clickhouse.spool import Bytes, Spool, decompressed, too_large
from runtime.local.clickhouse.statement import Statement, parse

HEAD_LIMIT_BYTES = 1024 * 1024
FORM_LIMIT_BYTES = 16 * 1024 * 1024

# Arguments of the interface itself, and settings that only a server with sessions and users has a use for.
_TRANSPORT = frozenset(
    {
        *("query", "query_id", "database", "default_format", "wait_end_of_query", "buffer_size", "compress"),
        *("decompress", "user", "password", "quota_key", "role", "session_id", "session_timeout", "session_check"),
        *("close_session", "stacktrace", "client_protocol_version", "enable_http_compression"),
        *("send_progress_in_http_headers", "http_headers_progress_interval_ms"),
        *("cancel_http_readonly_queries_on_client_close", "add_http_cors_header", "http_wait_end_of_query"),
    }
)
_FIELD_NAME = re.compile(rb'name="((?:[^"\\]|\\.)*)"')


class Request(msgspec.Struct, kw_only=True):
    """A whole request; header names are lower case. `body` is closed by whoever made it."""

    method: str
    target: str
    headers: dict[str, str]
    body: Bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def arguments(self) -> dict[str, str]:
        query = urlsplit(self.target).query
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=10_000))


class Prepared(msgspec.Struct, kw_only=True):
    """A job, and the spooled rows that must be closed when it is done."""

    job: Job
    query_id: str
    rows: Bytes | None = None


def prepare(request: Request, spool: Spool, limit: int) -> Prepared:
    """The job that a request asks for. Reads, decompresses and writes the body (blocking). Raises EngineError.

    `limit` bounds the decompressed body, in bytes.
    """
    arguments = request.arguments
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        arguments |= _form(request)
        source: Iterator[bytes] = iter(())
    else:
        source = decompressed(request.body.chunks(), request.headers.get("content-encoding", "").lower())
    for name in ("compress", "decompress"):
        if arguments.get(name, "0") not in ("0", "false"):
            raise refusal(NOT_IMPLEMENTED, "NOT_IMPLEMENTED", f"{name}=1 is not supported: use Content-Encoding")
    query = arguments.get("query", "").encode()
    head = query + b"\n" if query else b""
    plain = not request.headers.get("content-encoding") and request.body.small() is None
    if head and plain:
        statement = parse(head)
        if statement.kind == "insert" and statement.data_at == len(head):
            # The body is the rows and nothing else: its file is handed on as it is.
            return _prepared(request, arguments, statement, request.body.as_file(), None)
    while len(head) < HEAD_LIMIT_BYTES and (chunk := next(source, None)) is not None:
        head += chunk
    statement = parse(head)
    if statement.kind == "insert":
        rows = _rows(head[statement.data_at :], source, Bytes(spool, limit))
        return _prepared(request, arguments, statement, rows.as_file(), rows)
    if next(source, None):
        raise too_large(HEAD_LIMIT_BYTES)
    return _prepared(request, arguments, statement, None, None)


def _rows(first: bytes, rest: Iterator[bytes], rows: Bytes) -> Bytes:
    try:
        rows.write(first)
        for chunk in rest:
            rows.write(chunk)
    except EngineError:
        rows.close()
        raise
    return rows


def _prepared(
    request: Request, arguments: dict[str, str], statement: Statement, data: Path | None, rows: Bytes | None
) -> Prepared:
    if request.method == "GET" and not statement.read_only:
        raise refusal(READONLY, "READONLY", "Cannot execute query in readonly mode: a GET request only reads")
    if statement.kind == "session" and arguments.get("session_id"):
        raise refusal(NOT_IMPLEMENTED, "NOT_IMPLEMENTED", "Sessions are not supported: send settings with each request")
    settings = {
        name: value for name, value in arguments.items() if name not in _TRANSPORT and not name.startswith("param_")
    }
    job = Job(
        statement=statement,
        parameters={name[6:]: value for name, value in arguments.items() if name.startswith("param_")},
        settings=settings,
        database=_database(request, arguments),
        default_format=arguments.get("default_format") or request.headers.get("x-clickhouse-format") or "TabSeparated",
        whole=arguments.get("wait_end_of_query", "0") not in ("0", "false"),
        data=data,
    )
    return Prepared(job=job, query_id=arguments.get("query_id") or job.tag, rows=rows)


def _database(request: Request, arguments: dict[str, str]) -> str:
    return arguments.get("database") or request.headers.get("x-clickhouse-database") or "default"


def _form(request: Request) -> dict[str, str]:
    """The text fields of a multipart form; a file in it would be external data."""
    boundary = re.search(r'boundary="?([^";]+)"?', request.headers["content-type"])
    if boundary is None:
        raise refusal(BAD_ARGUMENTS, "BAD_ARGUMENTS", "A multipart body without a boundary")
    if request.body.size > FORM_LIMIT_BYTES:
        raise refusal(QUERY_IS_TOO_LARGE, "QUERY_IS_TOO_LARGE", f"A form is larger than {FORM_LIMIT_BYTES} bytes")
    # The first boundary has no line end before it, the last one two dashes behind it.
    parts = (b"\r\n" + b"".join(request.body.chunks())).split(b"\r\n--" + boundary[1].encode())
    fields: dict[str, str] = {}
    for part in parts[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        name = _FIELD_NAME.search(head)
        if name is None:
            raise refusal(BAD_ARGUMENTS, "BAD_ARGUMENTS", "A part of the form has no name")
        if b"filename=" in head:
            raise refusal(NOT_IMPLEMENTED, "NOT_IMPLEMENTED", "External data is not supported")
        fields[name[1].decode()] = value.decode()
    return fields
