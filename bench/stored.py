"""Stored events made inside ClickHouse: the same tables and the same view as the worker's blocks, without the log.

What is filled lies in the past and under meters of its own, so nothing that other scenarios count changes.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.events import ENVIRONMENT, TENANT
from bench.rig import PARTITIONS
from cli.system import SystemAddress
from runtime.settings import ClickhouseSettings, Secret
from stores.clickhouse.client import ClickhouseClient

FILLED_WITHIN_S = 900.0
# Rows of one insert, and so of one part of `events`: as much as a hundred blocks of a worker.
ROWS_AN_INSERT = 1_000_000
EVENTS_A_RECORD = 10

_COLUMNS = """tenant, environment, source, id, type, customer, customer_id, time, received_at, logged_at, ingested_at,
    block_day, properties, identity, topic_id, partition, offset, `index`, first_offset, cut, version, evaluator,
    insert_before, matches.meter, matches.generation, matches.value, matches.unique_key, matches.dimensions"""

# `{name:Type}` are ClickHouse's parameters; `customer`, `at` and `log_day` are expressions of the row's number `n`.
_FILL = """
    INSERT INTO events ({columns})
    SELECT {{tenant:String}}, {{environment:String}}, 'stored', concat({{topic:String}}, '-', toString(n)), 'stored.call',
        {customer} AS named, concat('cus_', named), {at} AS happened_at, happened_at, happened_at, happened_at, {log_day},
        concat('{{"tokens":"', toString(n % 1999), '","model":"', arrayElement(['large', 'medium', 'small'], 1 + n % 3),
            '","account":"', named, '"}}'),
        toFixedString(unhex(hex(sipHash128({{topic:String}}, n))), 16), {{topic:String}}, n % {partitions},
        intDiv(n, {record}), n % {record}, intDiv(n, 10000) * 1000, 0, 1, 1, now64(3) + 3600,
        [{{calls:String}}, {{tokens:String}}], [1, 1], [NULL, toDecimal128(n % 1999, 12)], ['', ''],
        [[named], [arrayElement(['large', 'medium', 'small'], 1 + n % 3)]]
    FROM (SELECT number + {{first:UInt64}} AS n FROM numbers({{count:UInt64}}))
"""

# The rows of an insert are one block: as many as it takes are put together, and no fewer because of their bytes.
_SETTINGS = {
    "max_block_size": ROWS_AN_INSERT,
    "max_insert_block_size": ROWS_AN_INSERT,
    "min_insert_block_size_rows": ROWS_AN_INSERT,
    "min_insert_block_size_bytes": 0,
    "max_insert_threads": 1,
    "max_execution_time": FILLED_WITHIN_S,
}


@asynccontextmanager
async def clickhouse_of(address: SystemAddress) -> AsyncIterator[ClickhouseClient]:
    """A client of the system's own server."""
    url = Secret(address.endpoints.clickhouse_url)
    client = ClickhouseClient(ClickhouseSettings(url=url, query_timeout_s=FILLED_WITHIN_S))
    try:
        yield client
    finally:
        await client.close()


async def fill_events(
    client: ClickhouseClient,
    *,
    topic: str,
    calls: str,
    tokens: str,
    first: int,
    count: int,
    customer: str,
    at: str,
    log_day: str,
) -> None:
    """Events number `first` to `first + count - 1` of `topic`, each counted by the meters with the ids `calls` and
    `tokens`. `customer` (a text), `at` (an instant) and `log_day` (a date) are SQL over the event's number `n`.
    """
    sql = _FILL.format(
        columns=_COLUMNS, customer=customer, at=at, log_day=log_day, partitions=PARTITIONS, record=EVENTS_A_RECORD
    )
    given = {"tenant": TENANT, "environment": ENVIRONMENT, "topic": topic, "calls": calls, "tokens": tokens}
    for begin in range(first, first + count, ROWS_AN_INSERT):
        rows = min(ROWS_AN_INSERT, first + count - begin)
        await client.command(sql, {**given, "first": begin, "count": rows}, **_SETTINGS)
