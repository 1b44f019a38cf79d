"""What a block leaves besides its stored events, and what of it is read back by a successor.

Duplicates and refusals are rows keyed by position in ReplacingMergeTree tables: writing them again changes nothing.
Reads go by position and never through the materialized view.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from schemas.blocks import DuplicateEvent, RefusedEvent
from stores.clickhouse.client import ClickhouseClient

_INSTANT = pa.timestamp("ms", tz="UTC")

_Column = tuple[str, pa.DataType, Callable[[Any], Any]]


class StoredMatch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One match of a stored event of a known customer, as its delta needs it. `value` is a Decimal or None."""

    tenant: str
    environment: str
    customer_id: str
    meter: str
    generation: int
    value: Any
    time_ms: int
    logged_at_ms: int
    offset: int
    index: int


def _of(name: str, kind: pa.DataType) -> _Column:
    return (name, kind, lambda row: getattr(row, name))


def _milliseconds(name: str) -> _Column:
    return (name, _INSTANT, lambda row: getattr(row, f"{name}_ms"))


_SHARED: tuple[_Column, ...] = (
    _of("tenant", pa.string()),
    _of("environment", pa.string()),
    _of("source", pa.string()),
    _of("id", pa.string()),
    _milliseconds("received_at"),
    _milliseconds("logged_at"),
    _of("offset", pa.uint64()),
    _of("index", pa.uint32()),
)
_DUPLICATE: tuple[_Column, ...] = (
    *_SHARED,
    _of("identity", pa.binary(16)),
    _of("first_offset", pa.uint64()),
    _of("first_index", pa.uint32()),
    _of("type", pa.string()),
    _of("customer", pa.string()),
    _milliseconds("time"),
    _of("properties", pa.binary()),
)
_REFUSED: tuple[_Column, ...] = (
    *_SHARED,
    _of("code", pa.string()),
    _of("message", pa.string()),
    _of("original", pa.binary()),
)


async def insert_duplicates(
    client: ClickhouseClient, topic_id: str, partition: int, rows: Sequence[DuplicateEvent]
) -> None:
    """Idempotent by position. All copies of an event are in one partition, so `first_partition` is `partition`."""
    extra = {"first_partition": pa.scalar(partition, pa.uint16())}
    await _insert(client, "event_duplicates", _DUPLICATE, topic_id, partition, rows, extra)


async def insert_refused(client: ClickhouseClient, topic_id: str, partition: int, rows: Sequence[RefusedEvent]) -> None:
    """Idempotent by position."""
    await _insert(client, "events_rejected", _REFUSED, topic_id, partition, rows, {})


async def _insert(
    client: ClickhouseClient,
    table: str,
    columns: Sequence[_Column],
    topic_id: str,
    partition: int,
    rows: Sequence[Any],
    extra: dict[str, pa.Scalar],
) -> None:
    if not rows:
        return
    constants = {
        "topic_id": pa.scalar(topic_id, pa.string()),
        "partition": pa.scalar(partition, pa.uint16()),
        **extra,
    }
    arrays = {name: pa.array([read(row) for row in rows], kind) for name, kind, read in columns}
    arrays |= {name: pa.repeat(value, len(rows)) for name, value in constants.items()}
    batch = pa.RecordBatch.from_pydict(arrays)
    target = f"{table}_all" if client.cluster and client.shards > 1 else table
    await client.insert_batch(target, batch, async_insert=0)


async def stored_matches(
    client: ClickhouseClient, topic_id: str, partition: int, first_offset: int, last_offset: int
) -> list[StoredMatch]:
    """The matches of a done block's events of known customers, as stored: a successor makes its deltas from them."""
    rows = await client.rows(
        "SELECT tenant, environment, customer_id, m.meter, m.generation, m.value, toUnixTimestamp64Milli(time),"
        f" toUnixTimestamp64Milli(logged_at), offset, index FROM {client.reads('events')} ARRAY JOIN matches AS m"
        " WHERE topic_id = {topic_id:String} AND partition = {partition:UInt16}"
        " AND offset BETWEEN {first:UInt64} AND {last:UInt64} AND customer_id != '' ORDER BY offset, index",
        {"topic_id": topic_id, "partition": partition, "first": first_offset, "last": last_offset},
    )
    return [StoredMatch(*row) for row in rows]


async def stored_count(
    client: ClickhouseClient, topic_id: str, partition: int, first_offset: int, last_offset: int
) -> int:
    """How many rows of a block are in `events`: none or all, an insert is atomic (protocol 1: look by position)."""
    rows = await client.rows(
        f"SELECT count() FROM {client.reads('events')}"
        " WHERE topic_id = {topic_id:String} AND partition = {partition:UInt16}"
        " AND offset BETWEEN {first:UInt64} AND {last:UInt64}",
        {"topic_id": topic_id, "partition": partition, "first": first_offset, "last": last_offset},
    )
    return int(rows[0][0])
