"""What became of events that were not stored: rows keyed by position, written after the block's insert, before `done`.

Both tables replace by position, so writing the same rows again changes nothing.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec
import pyarrow as pa

from schemas.events import Position
from stores.clickhouse.client import ClickhouseClient

_INSTANT = pa.timestamp("ms", tz="UTC")


class DuplicateRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event whose identity was known at the earlier position `first` (of the same topic)."""

    tenant: str
    environment: str
    source: str
    id: str
    identity: bytes
    received_at: datetime
    logged_at: datetime
    position: Position
    first: Position


class RejectedRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event or a whole record that was refused. `original` is what was sent, as bytes."""

    tenant: str
    environment: str
    source: str
    id: str
    code: str
    message: str
    received_at: datetime
    logged_at: datetime
    position: Position
    original: bytes


_DUPLICATES = pa.schema(
    [
        *((name, pa.string()) for name in ("tenant", "environment", "source", "id")),
        ("identity", pa.binary(16)),
        ("received_at", _INSTANT),
        ("logged_at", _INSTANT),
        ("topic_id", pa.string()),
        ("partition", pa.uint16()),
        ("offset", pa.uint64()),
        ("index", pa.uint32()),
        ("first_partition", pa.uint16()),
        ("first_offset", pa.uint64()),
        ("first_index", pa.uint32()),
    ]
)
_REJECTED = pa.schema(
    [
        *((name, pa.string()) for name in ("tenant", "environment", "source", "id", "code", "message")),
        ("received_at", _INSTANT),
        ("logged_at", _INSTANT),
        ("topic_id", pa.string()),
        ("partition", pa.uint16()),
        ("offset", pa.uint64()),
        ("index", pa.uint32()),
        ("original", pa.binary()),
    ]
)


async def insert_duplicates(client: ClickhouseClient, rows: Sequence[DuplicateRow]) -> None:
    """Idempotent by position. Nothing for no rows. Raises Unavailable: then do it again."""
    if rows:
        await _insert(client, "event_duplicates", _DUPLICATES, [_duplicate(row) for row in rows])


async def insert_rejected(client: ClickhouseClient, rows: Sequence[RejectedRow]) -> None:
    """Idempotent by position. Nothing for no rows. Raises Unavailable: then do it again."""
    if rows:
        await _insert(client, "events_rejected", _REJECTED, [_rejected(row) for row in rows])


async def _insert(client: ClickhouseClient, table: str, schema: pa.Schema, rows: Sequence[dict[str, object]]) -> None:
    await client.insert_batch(table, pa.RecordBatch.from_pylist(list(rows), schema=schema), async_insert=0)


def _position(position: Position) -> dict[str, object]:
    return {
        "topic_id": position.topic_id,
        "partition": position.partition,
        "offset": position.offset,
        "index": position.index,
    }


def _duplicate(row: DuplicateRow) -> dict[str, object]:
    return {
        **{name: getattr(row, name) for name in ("tenant", "environment", "source", "id", "identity")},
        "received_at": row.received_at,
        "logged_at": row.logged_at,
        **_position(row.position),
        "first_partition": row.first.partition,
        "first_offset": row.first.offset,
        "first_index": row.first.index,
    }


def _rejected(row: RejectedRow) -> dict[str, object]:
    names = ("tenant", "environment", "source", "id", "code", "message", "original")
    return {
        **{name: getattr(row, name) for name in names},
        "received_at": row.received_at,
        "logged_at": row.logged_at,
        **_position(row.position),
    }
