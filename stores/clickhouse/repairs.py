"""What a repair reads from ClickHouse and puts back: rows of `events` without passing through the view.

Rows are staged in a table of the same shape and then attached whole, day by day: what `usage_windows` has or lacks of
them is another question, with an answer of its own (window_completion.py).
"""

from collections.abc import Sequence
from datetime import date, datetime

import msgspec
import pyarrow as pa

from stores.clickhouse.blocks import insert_block
from stores.clickhouse.client import ClickhouseClient

STAGING = "events_repair"
_RANGES_A_READ = 1000
_WHERE = "topic_id = {topic_id:String} AND partition = {partition:UInt16}"


class RangeRows(msgspec.Struct, frozen=True, kw_only=True):
    """What the tables hold of one range of offsets. `positions` below `stored`: rows that count twice."""

    stored: int = 0
    positions: int = 0
    duplicate: int = 0
    rejected: int = 0


class RowGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of `events` that one insert wrote."""

    first_offset: int
    last_offset: int
    """The last one with a row; the block may have gone further."""
    rows: int
    version: int
    cut: int
    cuts: int


async def rows_of_ranges(
    client: ClickhouseClient, topic_id: str, partition: int, ranges: Sequence[tuple[int, int]]
) -> list[RangeRows]:
    """For each range (ascending, without overlap, both ends included) how many rows the three tables have."""
    found: list[RangeRows] = []
    for start in range(0, len(ranges), _RANGES_A_READ):
        found += await _rows_of(client, topic_id, partition, ranges[start : start + _RANGES_A_READ])
    return found


async def _rows_of(
    client: ClickhouseClient, topic_id: str, partition: int, ranges: Sequence[tuple[int, int]]
) -> list[RangeRows]:
    edges = sorted({edge for first, last in ranges for edge in (first, last + 1)})
    halves = [
        f"SELECT '{name}' AS name, roundDown(`offset`, {{edges:Array(UInt64)}}) AS edge, count() AS rows,"
        f" uniqExact(`offset`, `index`) AS positions FROM {client.reads(table)}"
        f" WHERE {_WHERE} AND `offset` BETWEEN {{first:UInt64}} AND {{last:UInt64}} GROUP BY edge"
        for name, table in (("stored", "events"), ("duplicate", "event_duplicates"), ("rejected", "events_rejected"))
    ]
    parameters = {
        "topic_id": topic_id,
        "partition": partition,
        "edges": edges,
        "first": ranges[0][0],
        "last": ranges[-1][1],
    }
    counted = {
        (name, int(edge)): (int(rows), int(positions))
        for name, edge, rows, positions in await client.rows(" UNION ALL ".join(halves), parameters)
    }
    none = (0, 0)
    return [
        RangeRows(
            stored=counted.get(("stored", first), none)[0],
            positions=counted.get(("stored", first), none)[1],
            duplicate=counted.get(("duplicate", first), none)[1],
            rejected=counted.get(("rejected", first), none)[1],
        )
        for first, _ in ranges
    ]


async def groups_above(client: ClickhouseClient, topic_id: str, partition: int, offset: int) -> list[RowGroup]:
    """The inserts that wrote rows above an offset, in order."""
    rows = await client.rows(
        "SELECT first_offset, max(`offset`), count(), max(version), max(cut), uniqExact(cut)"
        f" FROM {client.reads('events')} WHERE {_WHERE} AND `offset` > {{offset:Int64}} GROUP BY first_offset ORDER BY 1",
        {"topic_id": topic_id, "partition": partition, "offset": offset},
    )
    return [
        RowGroup(first_offset=row[0], last_offset=row[1], rows=row[2], version=row[3], cut=row[4], cuts=row[5])
        for row in rows
    ]


async def stored_positions(
    client: ClickhouseClient, topic_id: str, partition: int, first_offset: int, last_offset: int
) -> set[tuple[int, int]]:
    """(offset, index) of the rows of a range; both ends included."""
    rows = await client.rows(
        f"SELECT `offset`, `index` FROM {client.reads('events')} WHERE {_WHERE}"
        " AND `offset` BETWEEN {first:UInt64} AND {last:UInt64}",
        {"topic_id": topic_id, "partition": partition, "first": first_offset, "last": last_offset},
    )
    return {(int(offset), int(index)) for offset, index in rows}


async def newest_cut(client: ClickhouseClient) -> int:
    """The largest cut that any event carries; 0 where there is none."""
    [(found,)] = await client.rows(f"SELECT max(cut) FROM {client.reads('events')}")
    return int(found)


async def event_days(client: ClickhouseClient) -> tuple[datetime, datetime] | None:
    """The first and the last instant of any event; None where there is none."""
    [(count, first, last)] = await client.rows(f"SELECT count(), min(time), max(time) FROM {client.reads('events')}")
    return (first, last) if count else None


class Staging:
    """Rows on their way back into `events`. One repair at a time: the caller holds the repair's lock."""

    def __init__(self, client: ClickhouseClient) -> None:
        self._client = client
        self._days: set[date] = set()

    async def begin(self) -> None:
        """An empty staging table. Waits for what an earlier repair, gone since, may still be attaching."""
        name = f"{self._client.database}.{STAGING}"
        await self._client.command(f"DROP TABLE IF EXISTS {name} SYNC")
        await self._client.command(f"CREATE TABLE {name} AS {self._client.database}.events")
        self._days = set()

    async def add(
        self, batch: pa.RecordBatch, *, token: str, cut: int, insert_before: datetime, within_s: float
    ) -> None:
        """Rows of one block (of `BLOCK_SCHEMA`). Idempotent by `token` within this staging table."""
        if not batch.num_rows:
            return
        await insert_block(
            self._client,
            batch,
            token=token,
            cut=cut,
            insert_before=insert_before,
            deadline_s=within_s,
            table=STAGING,
        )
        self._days |= set(batch.column("block_day").to_pylist())

    async def attach(self) -> None:
        """Everything added, into `events`. Not safe to repeat after an unknown outcome: begin anew, and look first."""
        for day in sorted(self._days):
            await self._client.command(
                f"ALTER TABLE {self._client.database}.events ATTACH PARTITION '{day.isoformat()}'"
                f" FROM {self._client.database}.{STAGING}"
            )
        await self.drop()

    async def drop(self) -> None:
        await self._client.command(f"DROP TABLE IF EXISTS {self._client.database}.{STAGING} SYNC")
        self._days = set()
