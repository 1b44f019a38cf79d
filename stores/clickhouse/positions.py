"""Stored events by position: what a successor rebuilds its filter from, repeats deltas from, and checks a block with.

On a cluster reads are sequentially consistent, so a replica that lags is not taken for the truth (protocol 11).
"""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from schemas.ledger import Intent
from stores.clickhouse.client import ClickhouseClient

_WHERE = "topic_id = {topic_id:String} AND partition = {partition:UInt16}"
# One partition of the table per log-append day; a block's rows all lie in that of its first record (protocol 6).
_BLOCK = (
    f"{_WHERE} AND block_day = {{block_day:Date}} AND first_offset = {{first_offset:UInt64}} "
    "AND `offset` >= {first_offset:UInt64} AND `offset` <= {last_offset:UInt64}"
)
_ROW_COLUMNS = (
    "tenant, environment, source, id, type, customer, customer_id, toUnixTimestamp64Milli(time) AS time_ms, "
    "toUnixTimestamp64Milli(logged_at) AS logged_ms, identity, `offset`, `index`, cut, version, "
    "matches.meter AS match_meter, matches.generation AS match_generation, matches.value AS match_value, "
    "matches.unique_key AS match_unique_key, matches.dimensions AS match_dimensions"
)


async def identities_above(
    client: ClickhouseClient,
    topic_id: str,
    partition: int,
    offset: int,
    *,
    through: int | None = None,
    logged_from: datetime | None = None,
) -> AsyncIterator[pa.RecordBatch]:
    """Identities of stored events with a greater offset, ordered by position, as a stream of record batches.

    Columns: identity (fixed binary 16), offset (uint64), index (uint32), logged_ms (int64), block_first_offset
    (uint64: to count what a ledger row holds). `through` is the greatest offset wanted; events of blocks logged before
    `logged_from` (the filter's memory, protocol 21) are left out by whole days.
    """
    conditions = [_WHERE, "toInt64(`offset`) > {above:Int64}"]
    parameters: dict[str, Any] = {"topic_id": topic_id, "partition": partition, "above": offset}
    if through is not None:
        conditions.append("toInt64(`offset`) <= {through:Int64}")
        parameters["through"] = through
    if logged_from is not None:
        conditions.append("block_day >= {day:Date}")
        # A block may span midnight: it lies on the day of its first record.
        parameters["day"] = (logged_from.astimezone(UTC) - timedelta(days=1)).date()
    sql = (
        "SELECT identity, `offset`, `index`, toUnixTimestamp64Milli(logged_at) AS logged_ms, "
        f"first_offset AS block_first_offset FROM {client.reads('events')} WHERE {' AND '.join(conditions)} "
        "ORDER BY `offset`, `index`"
    )
    async for batch in client.arrow_batches(sql, parameters, max_execution_time=0):
        yield batch


async def rows_of_block(client: ClickhouseClient, intent: Intent) -> pa.Table:
    """The stored rows of one block in the order of their positions: what its deltas are repeated from (protocol 3, 7).

    Columns: tenant, environment, source, id, type, customer, customer_id (strings), time_ms, logged_ms (int64),
    identity, offset, index, cut, version, and match_meter, match_generation, match_value, match_unique_key,
    match_dimensions: lists, one entry per match.
    """
    sql = f"SELECT {_ROW_COLUMNS} FROM {client.reads('events')} WHERE {_BLOCK} ORDER BY `offset`, `index`"
    return await client.arrow(sql, block_parameters(intent))


async def count_of_range(client: ClickhouseClient, intent: Intent) -> int:
    """How many rows of the block are stored: `intent.stored`, or 0 when its insert never happened."""
    sql = f"SELECT count() FROM {client.reads('events')} WHERE {_BLOCK}"
    return int((await client.rows(sql, block_parameters(intent)))[0][0])


async def last_offset(client: ClickhouseClient, topic_id: str, partition: int) -> int:
    """The greatest stored offset, -1 for none: beyond the ledger's it says that the ledger was restored (protocol 18)."""
    sql = f"SELECT max(toInt64(`offset`)), count() FROM {client.reads('events')} WHERE {_WHERE}"
    greatest, count = (await client.rows(sql, {"topic_id": topic_id, "partition": partition}))[0]
    return int(greatest) if count else -1


def block_parameters(intent: Intent) -> Mapping[str, Any]:
    return {
        "topic_id": intent.topic_id,
        "partition": intent.partition,
        "first_offset": intent.first_offset,
        "last_offset": intent.last_offset,
        "block_day": intent.first_logged_at.astimezone(UTC).date(),
    }
