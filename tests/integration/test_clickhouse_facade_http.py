"""The stand-in's HTTP itself: bodies that end early, compression, bounds, clients that go away."""

import contextlib
import gzip
import http.client
import socket
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import lz4.frame
import pytest
import zstandard

from tests.support.clickhouse_process import ROOT, ClickHouseProcess, clickhouse_process
from tests.support.waiting import eventually

ROWS = b"".join(b"%d\tname %d\n" % (i, i) for i in range(50_000))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseProcess]:
    with clickhouse_process(Path(tmp_path_factory.mktemp("clickhouse")) / "data") as process:
        ask(process, "CREATE TABLE t (a UInt64, s String) ENGINE = MergeTree ORDER BY a")
        yield process


@pytest.fixture
def empty(server: ClickHouseProcess) -> ClickHouseProcess:
    ask(server, "TRUNCATE TABLE t")
    return server


def ask(
    server: ClickHouseProcess, statement: str, body: bytes = b"", method: str = "POST", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """The statement in the URL, the body as it is."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        target = "/?" + urlencode({"query": statement})
        connection.request(method, target, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def count(server: ClickHouseProcess) -> int:
    return int(ask(server, "SELECT count() FROM t")[2])


@contextlib.contextmanager
def raw(server: ClickHouseProcess) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        yield connection


@pytest.mark.parametrize("in_body", [False, True], ids=["statement in the URL", "statement in the body"])
@pytest.mark.parametrize("rows", [ROWS, ROWS[:500]], ids=["large", "small"])
def test_a_body_that_ends_early_is_refused_and_nothing_of_it_written(
    empty: ClickHouseProcess, in_body: bool, rows: bytes
) -> None:
    statement = b"INSERT INTO t FORMAT TSV"
    target = b"/" if in_body else b"/?query=" + statement.replace(b" ", b"+")
    body = statement + b"\n" + rows if in_body else rows
    for framing in (b"Content-Length: %d\r\n\r\n" % (len(body) + 1), b"Transfer-Encoding: chunked\r\n\r\n"):
        with raw(empty) as connection:
            piece = b"%x\r\n%b\r\n" % (len(body), body) if framing.startswith(b"Transfer") else body
            connection.sendall(b"POST %b HTTP/1.1\r\nHost: x\r\n%b" % (target, framing) + piece)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1000) == b""
    assert count(empty) == 0


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "lz4"])
def test_compressed_rows_arrive_and_cut_off_ones_are_refused(empty: ClickHouseProcess, encoding: str) -> None:
    compress = {
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "zstd": zstandard.ZstdCompressor().compress,
        "lz4": lz4.frame.compress,
    }[encoding]
    whole = (
        compress(ROWS[: len(ROWS) // 2]) + compress(ROWS[len(ROWS) // 2 :]) if encoding != "deflate" else compress(ROWS)
    )
    status, headers, _ = ask(empty, "INSERT INTO t FORMAT TSV", whole[:-9], Content_Encoding=encoding)
    assert (status, headers["x-clickhouse-exception-code"]) == (500, "271")
    assert count(empty) == 0
    assert ask(empty, "INSERT INTO t FORMAT TSV", whole, Content_Encoding=encoding)[0] == 200
    assert count(empty) == 50_000


def test_an_unknown_content_encoding_is_refused(empty: ClickHouseProcess) -> None:
    status, headers, _ = ask(empty, "INSERT INTO t FORMAT TSV", ROWS, Content_Encoding="snappy")
    assert (status, headers["x-clickhouse-exception-code"]) == (500, "89")


def test_a_statement_larger_than_its_bound_is_refused(empty: ClickHouseProcess) -> None:
    status, headers, _ = ask(empty, "SELECT 1 WHERE 1 IN (", b"1," * 1_000_000)
    assert (status, headers["x-clickhouse-exception-code"]) == (413, "229")


def test_an_answer_names_its_format_its_query_and_its_counts(empty: ClickHouseProcess) -> None:
    status, headers, body = ask(empty, "SELECT 1 AS a FORMAT CSVWithNames")
    assert (status, body) == (200, b'"a"\n1\n')
    assert headers["x-clickhouse-format"] == "CSVWithNames"
    assert headers["x-clickhouse-query-id"]
    assert headers["x-clickhouse-timezone"] == "UTC"
    inserted = ask(empty, "INSERT INTO t FORMAT TSV", ROWS)[1]
    assert '"written_rows":"50000"' in inserted["x-clickhouse-summary"]
    assert "x-clickhouse-format" not in inserted


def test_get_only_reads(empty: ClickHouseProcess) -> None:
    assert ask(empty, "SELECT 1", method="GET")[2] == b"1\n"
    assert ask(empty, "INSERT INTO t VALUES (1, 'x')", method="GET")[1]["x-clickhouse-exception-code"] == "164"


@pytest.mark.parametrize("path", ["/", "/ping"])
def test_a_get_without_a_statement_says_that_the_server_is_there(server: ClickHouseProcess, path: str) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        connection.request("GET", path)
        assert connection.getresponse().read() == b"Ok.\n"
        connection.request("GET", "/nothing")
        assert connection.getresponse().status == 404


def test_requests_that_came_together_are_answered_in_order(server: ClickHouseProcess) -> None:
    with raw(server) as connection:
        statements = [b"SELECT 1", b"SELECT 2", b"SELEC", b"SELECT 4"]
        connection.sendall(
            b"".join(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(s), s) for s in statements)
        )
        answer = b""
        while b"\r\n\r\n4\n" not in answer:
            answer += connection.recv(65536)
    assert [line for line in answer.splitlines() if line.startswith(b"HTTP/")] == [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 400 Bad Request",
        b"HTTP/1.1 200 OK",
    ]


def test_what_only_sessions_could_do_is_refused(server: ClickHouseProcess) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        connection.request("POST", "/?session_id=x", b"SET max_threads = 1")
        assert connection.getresponse().status == 501


def test_a_reader_that_goes_away_ends_its_query(server: ClickHouseProcess) -> None:
    query = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 7"
    running = "SELECT count() FROM system.processes WHERE query LIKE 'SELECT count() FROM numbers(1000%'"
    with raw(server) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(query), query.encode()))
        eventually(lambda: ask(server, running)[2] == b"1\n", within_s=10)
    eventually(lambda: ask(server, running)[2] == b"0\n", within_s=10)


def test_a_reader_that_leaves_a_stream_gives_its_place_back(server: ClickHouseProcess) -> None:
    query = b"SELECT number FROM numbers(1000000000)"
    for _ in range(20):
        with raw(server) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(query), query))
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    assert ask(server, "SELECT 1")[2] == b"1\n"


def test_a_slow_reader_of_a_large_answer_costs_little_memory(server: ClickHouseProcess) -> None:
    query = b"SELECT number, repeat('x', 100) FROM numbers(20000000)"
    with raw(server) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(query), query))
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        assert ask(server, "SELECT 1")[2] == b"1\n"
        held = int(ask(server, "SELECT max(memory_usage) FROM system.processes WHERE query LIKE '%repeat%'")[2])
    assert held < 500_000_000


def test_a_second_process_on_the_same_data_is_refused(server: ClickHouseProcess) -> None:
    command = [sys.executable, "-m", "runtime.local.clickhouse", "--data", str(server.data), "--port", "1"]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 1
    assert "another process uses" in second.stderr
