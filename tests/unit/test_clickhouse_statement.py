"""How the stand-in for ClickHouse reads a statement: kind, format, and where an INSERT's data begins."""

import gzip
import zlib
from collections.abc import Callable

import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from runtime.local.clickhouse.failures import EngineError, from_engine
from runtime.local.clickhouse.spool import decompressed
from runtime.local.clickhouse.statement import parse


@pytest.mark.parametrize(
    ("source", "kind", "head", "form", "tail"),
    [
        ("SELECT 1", "select", "SELECT 1", None, ""),
        ("SELECT 1;", "select", "SELECT 1", None, ""),
        ("SELECT 1\n FORMAT Native", "select", "SELECT 1", "Native", ""),
        (
            "select 1 format CSV settings max_threads = 1 ; -- end",
            "select",
            "select 1",
            "CSV",
            "settings max_threads = 1",
        ),
        ("SELECT ';', \"a;b\", `c;d` -- ; \n FORMAT TSV", "select", "SELECT ';', \"a;b\", `c;d` -- ;", "TSV", ""),
        ("SELECT 'it''s \\'; SELECT'", "select", "SELECT 'it''s \\'; SELECT'", None, ""),
        ("SELECT format FROM t", "select", "SELECT format FROM t", None, ""),
        ("SELECT 1 AS format FORMAT JSON", "select", "SELECT 1 AS format", "JSON", ""),
        ("SELECT format('{}', 1)", "select", "SELECT format('{}', 1)", None, ""),
        (
            "/* a */ WITH x AS (SELECT 1) SELECT * FROM x",
            "select",
            "/* a */ WITH x AS (SELECT 1) SELECT * FROM x",
            None,
            "",
        ),
        ("(SELECT 1) UNION ALL (SELECT 2)", "select", "(SELECT 1) UNION ALL (SELECT 2)", None, ""),
        ("SELECT $$;$$, $a$;$a$", "select", "SELECT $$;$$, $a$;$a$", None, ""),
        ("SHOW TABLES", "show", "SHOW TABLES", None, ""),
        ("SET a = 1", "session", "SET a = 1", None, ""),
        ("CREATE TEMPORARY TABLE t (a Int8)", "session", "CREATE TEMPORARY TABLE t (a Int8)", None, ""),
        ("INSERT INTO t (a) SELECT 1 FORMAT Null", "other", "INSERT INTO t (a) SELECT 1", "Null", ""),
        ("INSERT INTO t WITH 1 AS x SELECT x", "other", "INSERT INTO t WITH 1 AS x SELECT x", None, ""),
        ("ALTER TABLE t DELETE WHERE s = 'FORMAT x'", "other", "ALTER TABLE t DELETE WHERE s = 'FORMAT x'", None, ""),
    ],
)
def test_a_statement_is_cut_at_its_format(source: str, kind: str, head: str, form: str | None, tail: str) -> None:
    statement = parse(source.encode())
    assert (statement.kind, statement.head, statement.format, statement.tail) == (kind, head, form, tail)


@pytest.mark.parametrize(
    ("source", "head", "form", "tail", "data"),
    [
        (b"INSERT INTO t FORMAT Native\n\x00\xff;'", "INSERT INTO t", "Native", "", b"\x00\xff;'"),
        (b"INSERT INTO t FORMAT TSV \r\n\n1", "INSERT INTO t", "TSV", "", b"\n1"),
        (
            b"INSERT INTO d.t (`a b`, format, values) FORMAT CSV 1,2",
            "INSERT INTO d.t (`a b`, format, values)",
            "CSV",
            "",
            b"1,2",
        ),
        (b"insert into t values (1, 'a;b')", "insert into t", "Values", "", b" (1, 'a;b')"),
        (
            b"INSERT INTO t (a) SETTINGS x = 1 FORMAT Arrow\nARROW1",
            "INSERT INTO t (a)",
            "Arrow",
            "SETTINGS x = 1",
            b"ARROW1",
        ),
        (
            b"INSERT INTO FUNCTION null('a Int8') VALUES (1)",
            "INSERT INTO FUNCTION null('a Int8')",
            "Values",
            "",
            b" (1)",
        ),
        ("INSERT INTO `ü` FORMAT TSV\n1".encode(), "INSERT INTO `ü`", "TSV", "", b"1"),
        (b"INSERT INTO values FORMAT TSV\n1", "INSERT INTO values", "TSV", "", b"1"),
    ],
)
def test_an_inserts_data_begins_after_its_format(source: bytes, head: str, form: str, tail: str, data: bytes) -> None:
    statement = parse(source)
    assert statement.kind == "insert"
    assert (statement.head, statement.format, statement.tail) == (head, form, tail)
    assert source[statement.data_at :] == data


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (b"", 62),
        (b" -- nothing\n", 62),
        (b"SELECT 1; SELECT 2", 62),
        (b"CREATE TABLE a (b Int8) ENGINE = Memory; DROP TABLE a", 62),
        (b"SELECT 1 INTO OUTFILE 'x'", 358),
        (b"INSERT INTO t FROM INFILE 'x' FORMAT CSV", 36),
        (b"SELECT '\xff'", 62),
    ],
)
def test_what_the_http_interface_refuses_is_refused(source: bytes, code: int) -> None:
    with pytest.raises(EngineError) as refused:
        parse(source)
    assert refused.value.code == code


@given(st.binary(max_size=300))
def test_any_bytes_are_a_statement_or_refused(source: bytes) -> None:
    try:
        outcome: str = parse(source).kind
    except EngineError as error:
        outcome = error.text.partition(" DB::Exception: ")[0]
    assert outcome in ("select", "show", "insert", "session", "other", "Code: 62.", "Code: 36.", "Code: 358.")


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        ("Code: 60. DB::Exception: x. (UNKNOWN_TABLE)", 60, "Code: 60. DB::Exception: x. (UNKNOWN_TABLE)"),
        ("Streaming query failed: Code: 5. DB::Exception: Code: 5. DB::Exception: y", 5, "Code: 5. DB::Exception: y"),
        ("no code", 1002, "Code: 1002. DB::Exception: no code. (UNKNOWN_EXCEPTION)"),
    ],
)
def test_an_engines_message_gives_its_code(message: str, code: int, text: str) -> None:
    error = from_engine(message)
    assert (error.code, error.text) == (code, text)


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
    "lz4": lz4.frame.compress,
    "deflate": zlib.compress,
}


@given(
    encoding=st.sampled_from(["gzip", "zstd", "lz4"]),
    parts=st.lists(st.binary(max_size=200), min_size=1, max_size=4),
    step=st.integers(1, 50),
)
def test_frames_come_back_however_they_are_split(encoding: str, parts: list[bytes], step: int) -> None:
    data = b"".join(COMPRESS[encoding](part) for part in parts)
    pieces = (data[at : at + step] for at in range(0, len(data), step))
    assert b"".join(decompressed(pieces, encoding)) == b"".join(parts)


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_frame_that_is_cut_off_is_an_error_at_every_length(encoding: str) -> None:
    data = COMPRESS[encoding](b"some text, some text, some text")
    for length in range(1, len(data)):
        with pytest.raises(EngineError, match="271"):
            list(decompressed(iter([data[:length]]), encoding))
