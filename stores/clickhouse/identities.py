"""What the duplicate filter reads from `events`: the identities of a range of the log, their number, and single ones.

By position, never through the materialized view. `block_day` is the day of a block's first record, so a range whose
blocks began between two days lies in their partitions alone.
"""

import asyncio
from base64 import b64encode
from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from domain.offset_ranges import OffsetRange
from domain.records import MS_PER_DAY
from stores.clickhouse.client import ClickhouseClient, Parameters

_IDENTITY_BYTES = 16
_POSITION_BYTES = 12
ROW_BYTES = _IDENTITY_BYTES + _POSITION_BYTES
# A form field of a statement may have 128 KiB: so many identities fit in base64.
_IDENTITIES_A_FIELD = 5_000
_FIELDS = 10


class KnownPosition(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One stored event of an identity that was asked for."""

    identity: bytes
    offset: int
    index: int
    logged_at_ms: int


class IdentityRows(msgspec.Struct, frozen=True):
    """Rows of `events` in columns: identity and packed position (ROW_BYTES), sorted by log day and identity."""

    rows: Any
    days: Any

    def __len__(self) -> int:
        return len(self.days)

    def by_day(self, most: int) -> list[tuple[int, bytes]]:
        """(log day, rows as bytes), at most so many rows each."""
        if not len(self):
            return []
        bounds = [0, *(np.flatnonzero(np.diff(self.days)) + 1).tolist(), len(self.days)]
        return [
            (int(self.days[first]), self.rows[start : min(start + most, end)].tobytes())
            for first, end in pairwise(bounds)
            for start in range(first, end, most)
        ]


async def identity_rows(
    client: ClickhouseClient, topic_id: str, partition: int, offsets: OffsetRange, days: tuple[date, date]
) -> IdentityRows:
    """All rows with offsets in a range (both ends included) of blocks that began between two days, in memory.

    28 bytes a row, and as much again while they are sorted: the caller bounds the range.
    """
    query = (
        "SELECT identity, offset, index, toUnixTimestamp64Milli(logged_at) AS logged"
        f" FROM {client.reads('events')} WHERE {_WITHIN} AND offset BETWEEN {{first:UInt64}} AND {{last:UInt64}}"
    )
    arguments = {**_within(topic_id, partition, days), "first": offsets[0], "last": offsets[1]}
    batches = [batch async for batch in client.arrow_batches(query, arguments)]
    return await asyncio.to_thread(_sorted_rows, [batch for batch in batches if batch.num_rows])


async def identity_counts(
    client: ClickhouseClient,
    topic_id: str,
    partition: int,
    ranges: Sequence[OffsetRange],
    days: tuple[date, date],
) -> list[int]:
    """How many rows each of the ranges (ascending, without overlap) has: one pass over the partition's offsets."""
    edges = sorted({edge for first, last in ranges for edge in (first, last + 1)})
    rows = await client.rows(
        f"SELECT roundDown(offset, {{edges:Array(UInt64)}}) AS edge, count() FROM {client.reads('events')}"
        f" WHERE {_WITHIN} AND offset BETWEEN {{first:UInt64}} AND {{last:UInt64}} GROUP BY edge",
        {**_within(topic_id, partition, days), "edges": edges, "first": ranges[0][0], "last": ranges[-1][1]},
    )
    found = {int(edge): int(count) for edge, count in rows}
    return [found.get(first, 0) for first, _ in ranges]


async def known_positions(
    client: ClickhouseClient,
    topic_id: str,
    partition: int,
    identities: Sequence[bytes],
    ranges: Sequence[OffsetRange],
    days: tuple[date, date],
) -> list[KnownPosition]:
    """Every stored event with one of these identities in these ranges of offsets; those not stored are absent."""
    found: list[KnownPosition] = []
    most = _IDENTITIES_A_FIELD * _FIELDS
    for start in range(0, len(identities), most):
        fields = {
            f"identities_{number}": b64encode(b"".join(identities[first : first + _IDENTITIES_A_FIELD])).decode()
            for number, first in enumerate(range(start, min(start + most, len(identities)), _IDENTITIES_A_FIELD))
        }
        packed = ", ".join(f"base64Decode({{{name}:String}})" for name in fields)
        within = " OR ".join(f"offset BETWEEN {int(first)} AND {int(last)}" for first, last in ranges)
        rows = await client.rows(
            f"WITH concat({packed}, '') AS packed"
            " SELECT identity, offset, index, toUnixTimestamp64Milli(logged_at)"
            f" FROM {client.reads('events')} WHERE {_WITHIN} AND ({within}) AND identity IN ("
            "SELECT toFixedString(substring(packed, 16 * number + 1, 16), 16)"
            " FROM numbers(intDiv(length(packed), 16)))",
            {**_within(topic_id, partition, days), **fields},
        )
        found += [KnownPosition(_bytes(row[0]), row[1], row[2], row[3]) for row in rows]
    return found


_WITHIN = (
    "topic_id = {topic_id:String} AND partition = {partition:UInt16}"
    " AND block_day BETWEEN {first_day:Date} AND {last_day:Date}"
)


def _within(topic_id: str, partition: int, days: tuple[date, date]) -> Parameters:
    return {"topic_id": topic_id, "partition": partition, "first_day": days[0], "last_day": days[1]}


def _sorted_rows(batches: Sequence[pa.RecordBatch]) -> IdentityRows:
    count = sum(batch.num_rows for batch in batches)
    rows = np.empty((count, ROW_BYTES), dtype=np.uint8)
    offsets = np.empty(count, dtype=np.uint64)
    days = np.empty(count, dtype=np.int64)
    start = 0
    for batch in batches:
        end = start + batch.num_rows
        identity, offset, index, logged = batch.columns
        rows[start:end, :_IDENTITY_BYTES] = _fixed(identity)
        offsets[start:end] = offset.to_numpy(zero_copy_only=False)
        rows[start:end, 24:] = index.to_numpy(zero_copy_only=False).astype(">u4").view(np.uint8).reshape(-1, 4)
        days[start:end] = logged.to_numpy(zero_copy_only=False) // MS_PER_DAY
        start = end
    rows[:, _IDENTITY_BYTES:24] = offsets.astype(">u8").view(np.uint8).reshape(-1, 8)
    # By the first eight bytes: neighbours in the store are neighbours here, which is all that the order is for.
    leading = np.ascontiguousarray(rows[:, :8]).view(">u8").reshape(-1).astype(np.uint64)
    order = np.lexsort((leading, days)) if days.size and days.min() != days.max() else np.argsort(leading)
    return IdentityRows(rows[order], days[order])


def _fixed(column: Any) -> Any:
    """FixedString(16) as a matrix of bytes: ClickHouse sends it as binary of a fixed or of any length."""
    fixed = column if pa.types.is_fixed_size_binary(column.type) else column.cast(pa.binary(_IDENTITY_BYTES))
    data = np.frombuffer(fixed.buffers()[1], dtype=np.uint8)
    start = fixed.offset * _IDENTITY_BYTES
    return data[start : start + len(fixed) * _IDENTITY_BYTES].reshape(-1, _IDENTITY_BYTES)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("latin-1")
