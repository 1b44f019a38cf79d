"""Deduplication, and SIGKILL in the middle of inserts: what was acknowledged stays, what was not is all or nothing."""

import contextlib
import functools
import itertools
import random
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import clickhouse_connect
import numpy as np
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from tests.support.clickhouse_process import ClickHouseProcess, clickhouse_process
from tests.support.waiting import eventually

# The settings of every block insert; the token is the block's position.
BLOCK_SETTINGS = {
    "async_insert": 0,
    "max_insert_threads": 1,
    "insert_deduplicate": 1,
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "max_insert_block_size": 1_000_000,
    "max_block_size": 1_000_000,
    "min_insert_block_size_rows": 0,
    "min_insert_block_size_bytes": 0,
    "max_execution_time": 30,
}
SCHEMA = [
    """CREATE TABLE facts (block UInt64, offset UInt64, customer String, minute DateTime('UTC'),
       meters Array(String), value Decimal(38, 12), day Date) ENGINE = MergeTree PARTITION BY day ORDER BY offset
       SETTINGS non_replicated_deduplication_window = 1000""",
    """CREATE TABLE totals (customer String, meter String, minute DateTime('UTC'),
       n SimpleAggregateFunction(sum, UInt64), total SimpleAggregateFunction(sum, Decimal(76, 12)),
       u AggregateFunction(uniqExact, UInt64)) ENGINE = AggregatingMergeTree PARTITION BY toYear(minute)
       ORDER BY (customer, meter, minute) SETTINGS non_replicated_deduplication_window = 3000""",
    """CREATE MATERIALIZED VIEW totals_view TO totals AS
       SELECT customer, meter, minute, count() AS n, sum(toDecimal256(value, 12)) AS total,
              uniqExactState(offset) AS u
       FROM facts ARRAY JOIN meters AS meter GROUP BY customer, meter, minute""",
]
KILLS = 6


@pytest.fixture
def process(tmp_path: Path) -> Iterator[ClickHouseProcess]:
    with clickhouse_process(tmp_path / "data") as running:
        yield running


def connect(process: ClickHouseProcess) -> Client:
    return clickhouse_connect.get_client(host="127.0.0.1", port=process.port, autogenerate_session_id=False)


@functools.cache
def block(number: int, rows: int) -> pa.Table:
    """The same rows for the same number, whenever it is asked for."""
    offsets = np.arange(rows, dtype=np.uint64) + number * 10_000_000
    return pa.table(
        {
            "block": pa.array(np.full(rows, number, dtype=np.uint64)),
            "offset": pa.array(offsets),
            "customer": pa.array(np.char.add("c", (offsets % 50).astype(str))),
            "minute": pa.array((offsets % 3 * 31_536_000 + 1_700_000_000).astype(np.uint32)),
            "meters": pa.ListArray.from_arrays(
                pa.array(np.arange(rows + 1, dtype=np.int32) * 2), pa.array(np.tile(np.array(["count", "sum"]), rows))
            ),
            "value": pa.repeat(pa.scalar(Decimal(number % 7 + 1), pa.decimal128(38, 12)), rows),
            "day": pa.array(np.full(rows, 19_700 + number % 2, dtype=np.uint16)),
        }
    )


def insert(client: Client, number: int, rows: int) -> None:
    client.insert_arrow(
        "facts", block(number, rows), settings=BLOCK_SETTINGS | {"insert_deduplication_token": f"t/{number}"}
    )


def truth(blocks: dict[int, int]) -> tuple[tuple[int, int], tuple[int, Decimal, int]]:
    rows = sum(blocks.values())
    total = sum((Decimal(number % 7 + 1) * rows_of * 2 for number, rows_of in blocks.items()), Decimal(0))
    return (rows, len(blocks)), (2 * rows, total, rows)


def stored(client: Client) -> tuple[tuple[int, int], tuple[int, Decimal, int]]:
    facts = client.query("SELECT count(), uniqExact(block) FROM facts").result_rows[0]
    totals = client.query("SELECT sum(n), sum(total), uniqExactMerge(u) FROM totals").result_rows[0]
    return (facts[0], facts[1]), (totals[0], totals[1], totals[2])


def test_a_block_is_one_part_and_its_token_makes_a_retry_a_no_op_also_after_a_restart(
    process: ClickHouseProcess,
) -> None:
    client = connect(process)
    for statement in SCHEMA:
        client.command(statement)
    client.command("SYSTEM STOP MERGES")
    blocks = {1: 500_000, 2: 10}
    for number, rows in blocks.items():
        insert(client, number, rows)
    parts = "SELECT table, max(rows), count() FROM system.parts WHERE active GROUP BY table ORDER BY table"
    assert client.query(parts).result_rows[0] == ("facts", 500_000, 2)
    for number, rows in blocks.items():
        insert(client, number, rows)
    assert stored(client) == truth(blocks)
    client.close()

    assert process.stop() == 0
    process.start()
    client = connect(process)
    for number, rows in blocks.items():
        insert(client, number, rows)
    assert stored(client) == truth(blocks)
    client.close()


def test_an_insert_that_takes_too_long_is_refused_whole_and_its_token_is_not_used_up(
    process: ClickHouseProcess,
) -> None:
    client = connect(process)
    for statement in SCHEMA:
        client.command(statement)
    late = BLOCK_SETTINGS | {"insert_deduplication_token": "t/1", "max_execution_time": 0.01}
    with pytest.raises(DatabaseError) as refused:
        client.insert_arrow("facts", block(1, 400_000), settings=late)
    assert refused.value.code == 159
    assert stored(client)[0] == (0, 0)
    insert(client, 1, 400_000)
    assert stored(client) == truth({1: 400_000})
    client.close()


@pytest.mark.parametrize("seed", [20_251])
def test_after_kills_in_mid_insert_the_last_blocks_repeated_make_facts_and_view_exact(
    process: ClickHouseProcess, seed: int
) -> None:
    chance = random.Random(seed)
    client = connect(process)
    for statement in SCHEMA:
        client.command(statement)
    client.close()
    numbers = itertools.count()
    blocks: dict[int, int] = {}
    for _ in range(KILLS):
        acknowledged = dict(blocks)
        killer = threading.Timer(chance.uniform(0.05, 0.6), process.kill)
        client = connect(process)
        killer.start()
        with contextlib.suppress(ClickHouseError):
            while True:
                number, rows = next(numbers), chance.choice([2_000, 60_000])
                blocks[number] = rows
                insert(client, number, rows)
                acknowledged[number] = rows
        killer.join()
        client.close()

        process.start()
        client = connect(process)
        whole = client.query("SELECT block, count() FROM facts GROUP BY block").result_rows
        assert {number: rows for number, rows in whole if number in acknowledged} == acknowledged
        assert all(blocks[number] == rows for number, rows in whole)
        for number in list(blocks)[-3:]:
            insert(client, number, blocks[number])
        assert stored(client) == truth(blocks)
        client.close()


def test_sigterm_lets_a_running_insert_finish(process: ClickHouseProcess) -> None:
    client = connect(process)
    client.command("CREATE TABLE slow (a UInt64) ENGINE = MergeTree ORDER BY a")
    failures: list[ClickHouseError] = []

    def write() -> None:
        try:
            client.command(
                "INSERT INTO slow SELECT number + sleepEachRow(0.2) FROM numbers(8)"
                " SETTINGS max_block_size = 1, max_threads = 1"
            )
        except ClickHouseError as error:
            failures.append(error)

    other = connect(process)
    writer = threading.Thread(target=write)
    writer.start()
    eventually(lambda: other.command("SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO slow%'"), 10)
    assert process.stop() == 0
    writer.join()
    assert failures == []
    process.start()
    assert other.command("SELECT count() FROM slow") == 8
    other.close()
