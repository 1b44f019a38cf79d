"""What clickhouse-connect's two clients need from a server, asked of the process that stands in for it."""

import asyncio
import contextlib
import http.client
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import clickhouse_connect
import pyarrow as pa
import pytest
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from tests.support.clickhouse_process import ClickHouseProcess, clickhouse_process

STREAMED_ROWS = 300_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseProcess]:
    with clickhouse_process(Path(tmp_path_factory.mktemp("clickhouse")) / "data") as process:
        yield process


def connect(server: ClickHouseProcess, **options: Any) -> Client:
    return clickhouse_connect.get_client(
        host="127.0.0.1", port=server.port, **{"autogenerate_session_id": False, **options}
    )


@pytest.fixture
def client(server: ClickHouseProcess) -> Iterator[Client]:
    made = connect(server)
    yield made
    made.close()


@pytest.fixture
async def async_client(server: ClickHouseProcess) -> AsyncIterator[AsyncClient]:
    made = await clickhouse_connect.get_async_client(host="127.0.0.1", port=server.port, autogenerate_session_id=False)
    yield made
    await made.close()


@pytest.fixture
def table(client: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)
    client.command(
        f"CREATE TABLE {name} (a UInt64, s String, l LowCardinality(String), n Nullable(Decimal(38, 12)))"
        " ENGINE = MergeTree ORDER BY a"
    )
    yield name
    client.command(f"DROP TABLE {name} SYNC")


COLUMNS = ["a", "s", "l", "n"]
ROWS = [[1, "x", "p", None], [2, "tab\tquote'", "q", "1.5"], [3, "ü", "p", "-0.000000000001"]]
ARROW = pa.table(
    {
        "a": pa.array([1, 2], pa.uint64()),
        "s": ["x", "y"],
        "l": ["p", "q"],
        "n": pa.array([None, None], pa.decimal128(38, 12)),
    }
)


def test_the_sync_client_reads_and_writes_by_each_of_its_methods(client: Client, table: str) -> None:
    assert client.ping()
    assert client.insert(table, ROWS, column_names=COLUMNS).written_rows == 3
    client.insert_arrow(table, ARROW)
    client.raw_insert(table, COLUMNS, b"9,z,p,0.5\n", fmt="CSV")
    client.command(f"INSERT INTO {table} VALUES (10, 'v', 'p', 2), (11, 'w', 'p', NULL)")

    result = client.query(f"SELECT a, s, l, toString(n) FROM {table} WHERE a <= 3 ORDER BY a, s")
    assert result.column_names == ("a", "s", "l", "toString(n)")
    assert result.result_rows[-1] == (3, "ü", "p", "-0.000000000001")
    assert result.query_id
    assert client.command(f"SELECT count() FROM {table}") == 8
    assert client.query_arrow(f"SELECT a FROM {table} ORDER BY a").column("a").to_pylist() == [1, 1, 2, 2, 3, 9, 10, 11]
    assert list(client.query_df(f"SELECT a FROM {table} WHERE a > 9 ORDER BY a")["a"]) == [10, 11]
    assert client.raw_query(f"SELECT max(a) FROM {table}", fmt="CSV") == b"11\n"
    with client.query_row_block_stream(f"SELECT number FROM numbers({STREAMED_ROWS})") as blocks:
        assert sum(row[0] for block in blocks for row in block) == STREAMED_ROWS * (STREAMED_ROWS - 1) // 2
    streamed = client.raw_stream(f"SELECT number FROM numbers({STREAMED_ROWS})", fmt="CSV")
    assert isinstance(streamed, io.IOBase)
    assert streamed.read().count(b"\n") == STREAMED_ROWS
    with client.query_arrow_stream(f"SELECT number FROM numbers({STREAMED_ROWS})") as batches:
        assert sum(batch.num_rows for batch in batches) == STREAMED_ROWS


async def test_the_async_client_reads_and_writes_by_each_of_its_methods(
    async_client: AsyncClient, client: Client, table: str
) -> None:
    assert await async_client.ping()
    assert (await async_client.insert(table, ROWS, column_names=COLUMNS)).written_rows == 3
    await async_client.insert_arrow(table, ARROW)
    await async_client.raw_insert(table, COLUMNS, b"9,z,p,0.5\n", fmt="CSV")

    result = await async_client.query(f"SELECT a, s FROM {table} WHERE a = 2 ORDER BY s")
    assert result.result_rows == [(2, "tab\tquote'"), (2, "y")]
    assert await async_client.command(f"SELECT count() FROM {table}") == 6
    assert (await async_client.query_arrow(f"SELECT a FROM {table}")).num_rows == 6
    assert len(await async_client.query_df(f"SELECT a FROM {table}")) == 6
    assert await async_client.raw_query(f"SELECT max(a) FROM {table}", fmt="CSV") == b"9\n"
    async with await async_client.query_row_block_stream(f"SELECT number FROM numbers({STREAMED_ROWS})") as blocks:
        assert sum([len(block) async for block in blocks]) == STREAMED_ROWS
    async with await async_client.raw_stream(f"SELECT number FROM numbers({STREAMED_ROWS})", fmt="CSV") as pieces:
        assert b"".join([piece async for piece in pieces]).count(b"\n") == STREAMED_ROWS


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
def test_inserts_arrive_whole_whatever_their_compression(
    server: ClickHouseProcess, client: Client, table: str, compress: str | bool
) -> None:
    writer = connect(server, compress=compress)
    rows = [[i, f"s{i}" * 20, "p", None] for i in range(100_000)]
    writer.insert(table, rows, column_names=COLUMNS, settings={"async_insert": 0})
    writer.close()
    assert client.query(f"SELECT count(), sum(a), sum(length(s)) FROM {table}").result_rows == [
        (100_000, sum(range(100_000)), sum(len(row[1]) for row in rows))  # type: ignore[arg-type,misc]
    ]


@pytest.mark.parametrize("in_form", [False, True], ids=["url", "form"])
def test_parameters_arrive_as_they_were_given(server: ClickHouseProcess, in_form: bool) -> None:
    client = connect(server, form_encode_query_params=in_form)
    given = {"n": 5, "s": "a'b\tc\\d\né", "l": ["x'", "y\\"], "none": None, "d": "12.500000000001"}
    query = (
        "SELECT {n:UInt64} + 1, {s:String}, {l:Array(String)}, {none:Nullable(String)}, toString({d:Decimal(38, 12)})"
    )
    assert client.query(query, parameters=given).result_rows == [(6, given["s"], given["l"], None, "12.500000000001")]
    assert client.query("SELECT length({s:String})", parameters={"s": "z" * 100_000}).result_rows == [(100_000,)]
    client.close()


async def test_large_parameters_of_the_async_client_arrive_in_a_form(async_client: AsyncClient) -> None:
    rows = (await async_client.query("SELECT length({s:String})", parameters={"s": "z" * 100_000})).result_rows
    assert rows == [(100_000,)]


def test_settings_hold_for_exactly_their_statement(client: Client) -> None:
    ask = "SELECT getSetting('max_threads'), getSetting('max_block_size')"
    default = client.query(ask).result_rows
    for _ in range(20):
        assert client.query(ask, settings={"max_threads": 1}).result_rows[0][0] == 1
        assert client.query(ask, settings={"max_block_size": 77}).result_rows == [(default[0][0], 77)]
        assert client.query(ask).result_rows == default
    client.command("SET max_block_size = 5")
    assert client.query(ask).result_rows == default


def test_a_refused_setting_leaves_no_other_setting_behind(client: Client) -> None:
    before = client.query("SELECT getSetting('max_block_size')").result_rows
    for _ in range(5):
        with pytest.raises(DatabaseError) as refused:
            client.raw_query("SELECT 1", settings={"max_block_size": 3, "max_threads": "many"})
        assert refused.value.code is not None
    assert [client.query("SELECT getSetting('max_block_size')").result_rows for _ in range(20)] == [before] * 20


def test_a_database_argument_holds_for_exactly_its_statement(server: ClickHouseProcess, client: Client) -> None:
    client.command("CREATE DATABASE IF NOT EXISTS other")
    other = connect(server, database="other")
    for _ in range(5):
        assert other.command("SELECT currentDatabase()") == "other"
        assert client.command("SELECT currentDatabase()") == "default"
    other.close()
    client.command("DROP DATABASE other SYNC")


@pytest.mark.parametrize(
    ("statement", "code", "status"),
    [
        ("SELEC 1", 62, 400),
        ("SELECT 1; SELECT 2", 62, 400),
        ("SELECT * FROM absent", 60, 404),
        ("SELECT * FROM absent.t", 81, 404),
        ("SELECT absent FROM system.one", 47, 404),
        ("SELECT absent(1)", 46, 404),
        ("SELECT toDateTime('x')", 41, 400),
        ("SELECT throwIf(1)", 395, 500),
        ("SELECT {x:UInt8}", 456, 500),
        ("SELECT sleepEachRow(0.2) FROM numbers(10) SETTINGS max_execution_time = 0.3, max_block_size = 1", 159, 408),
        ("SELECT 1 INTO OUTFILE 'x'", 358, 500),
        ("SELECT 1 FORMAT Absent", 73, 404),
    ],
)
def test_errors_carry_the_code_and_the_status_of_a_server(
    server: ClickHouseProcess, client: Client, statement: str, code: int, status: int
) -> None:
    with pytest.raises(DatabaseError) as refused:
        client.command(statement)
    assert refused.value.code == code
    answer = _post(server, statement)
    assert answer[:2] == (status, str(code))
    assert answer[2].startswith(f"Code: {code}. DB::Exception: ")


def _post(server: ClickHouseProcess, statement: str) -> tuple[int, str | None, str]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request("POST", "/", statement.encode())
        response = connection.getresponse()
        return response.status, response.headers.get("X-ClickHouse-Exception-Code"), response.read().decode()


def test_a_violated_constraint_is_code_469_and_writes_nothing(client: Client) -> None:
    client.command(
        "CREATE TABLE late (a UInt64, insert_before DateTime64(3, 'UTC'),"
        " CONSTRAINT in_time CHECK insert_before > now64(3)) ENGINE = MergeTree ORDER BY a"
    )
    before = pa.array([4_000_000_000_000, 1_000], pa.timestamp("ms", "UTC"))
    with pytest.raises(DatabaseError) as refused:
        client.insert_arrow("late", pa.table({"a": pa.array([1, 2], pa.uint64()), "insert_before": before}))
    assert refused.value.code == 469
    assert client.command("SELECT count() FROM late") == 0
    client.command("DROP TABLE late SYNC")


def test_an_error_in_the_middle_of_a_stream_reaches_the_client(client: Client) -> None:
    failing = "SELECT throwIf(number = 900000) FROM numbers(1000000) SETTINGS max_block_size = 10000"
    with (
        pytest.raises(ClickHouseError, match="395"),
        client.query_row_block_stream(failing, settings={"max_threads": 1}) as blocks,
    ):
        assert sum(len(block) for block in blocks) < 1_000_000


async def test_an_error_in_the_middle_of_a_stream_reaches_the_async_client(async_client: AsyncClient) -> None:
    failing = "SELECT throwIf(number = 900000) FROM numbers(1000000) SETTINGS max_block_size = 10000"
    # Its HTTP library may report the broken answer before the client has read the code in it.
    with pytest.raises(ClickHouseError, match=r"395|Stream failed"):
        async with await async_client.query_row_block_stream(failing, settings={"max_threads": 1}) as blocks:
            assert sum([len(block) async for block in blocks]) < 1_000_000


@pytest.mark.parametrize(
    "query",
    [
        "SELECT a, s, l, n FROM {table} WHERE a > 10",
        "WITH 5 AS five SELECT a, s, l, n FROM {table} WHERE a > five ORDER BY a SETTINGS max_threads = 1",
        "SELECT a, s, l, n FROM {table} UNION ALL SELECT a, s, l, n FROM {table}",
        "(SELECT a, s, l, n FROM {table}) UNION DISTINCT (SELECT a, s, l, n FROM {table} LIMIT 3)",
    ],
)
def test_an_empty_select_has_its_columns(client: Client, table: str, query: str) -> None:
    result = client.query(query.format(table=table))
    assert result.result_rows == []
    assert result.column_names == ("a", "s", "l", "n")
    assert [str(kind.name) for kind in result.column_types] == [
        "UInt64",
        "String",
        "LowCardinality(String)",
        "Nullable(Decimal(38, 12))",
    ]
    assert client.query_arrow(query.format(table=table)).column_names == ["a", "s", "l", "n"]
    assert client.query_df(query.format(table=table)).empty


def test_an_empty_select_with_parameters_has_its_columns(client: Client) -> None:
    result = client.query("SELECT {p:String} AS p WHERE p = 'other'", parameters={"p": "x"})
    assert (result.result_rows, result.column_names) == ([], ("p",))
    assert client.query("SHOW TABLES LIKE 'nothing like this'").column_names == ("name",)


async def test_a_scan_does_not_delay_point_queries(async_client: AsyncClient) -> None:
    scan = asyncio.create_task(
        async_client.query("SELECT sum(sleepEachRow(1)) FROM numbers(3) SETTINGS max_block_size = 1, max_threads = 1")
    )
    loop = asyncio.get_running_loop()
    slowest = 0.0
    while not scan.done():
        began = loop.time()
        assert (await async_client.query("SELECT 1")).result_rows == [(1,)]
        slowest = max(slowest, loop.time() - began)
        await asyncio.sleep(0.02)
    assert (await scan).result_rows == [(0,)]
    assert slowest < 0.5
