"""How far the ingest workers are, read from the ledger's rows: a block that is done is visible in the windows."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import msgspec
import psycopg

from bench.load import BenchError
from runtime.settings import KafkaSettings
from schemas.topics import USAGE_RAW
from stores.log_ends import LogEnds

WITHIN_S = 180.0
_POLL_S = 0.1
_DONE = """
    SELECT b.partition, b.first_offset, b.last_offset, b.stored, extract(epoch FROM b.done_at)
    FROM ledger_blocks AS b JOIN log_topics AS t USING (topic_id)
    WHERE t.name = %s AND b.state = 'done' AND b.stored > 0 AND b.done_at > to_timestamp(%s) ORDER BY b.done_at
"""
_STORED = """
    SELECT coalesce(sum(b.stored), 0) FROM ledger_blocks AS b JOIN log_topics AS t USING (topic_id)
    WHERE t.name = %s AND b.state = 'done' AND b.done_at > to_timestamp(%s)
"""
_LAST = """
    SELECT p.partition, p.last_offset FROM ledger_partitions AS p JOIN log_topics AS t USING (topic_id) WHERE t.name = %s
"""


class DoneBlock(msgspec.Struct, frozen=True):
    """A block whose events are visible. `done_at` in seconds by PostgreSQL's clock."""

    partition: int
    first_offset: int
    last_offset: int
    events: int
    done_at: float


class BlockLedger:
    """Asks on a connection of its own; one question at a time."""

    def __init__(self, connection: psycopg.AsyncConnection, ends: LogEnds) -> None:
        self._connection = connection
        self._ends = ends

    async def now(self) -> float:
        """PostgreSQL's clock: what `done_at` is measured by."""
        [(now,)] = await self._rows("SELECT extract(epoch FROM clock_timestamp())")
        return float(now)

    async def done_after(self, moment: float) -> list[DoneBlock]:
        """Blocks that were done after `moment`, in order."""
        rows = await self._rows(_DONE, USAGE_RAW, moment)
        return [DoneBlock(row[0], row[1], row[2], row[3], float(row[4])) for row in rows]

    async def first_done(self, moment: float, within_s: float = WITHIN_S) -> float:
        """Waits for the first block that is done after `moment`: when it was."""
        deadline = time.perf_counter() + within_s
        while not (blocks := await self.done_after(moment)):
            if time.perf_counter() > deadline:
                raise BenchError(f"no block is done within {within_s:g} s")
            await asyncio.sleep(_POLL_S / 2)
        return blocks[0].done_at

    async def stored_after(self, moment: float) -> int:
        """Events of the blocks that were done after `moment`."""
        [(stored,)] = await self._rows(_STORED, USAGE_RAW, moment)
        return int(stored)

    async def caught_up(self, within_s: float = WITHIN_S) -> None:
        """Returns once all that the log holds now is done."""
        ends = await self._ends.read()
        deadline = time.perf_counter() + within_s
        while True:
            last: dict[int, int] = dict(await self._rows(_LAST, USAGE_RAW))
            behind = sum(max(0, end - 1 - last.get(number, -1)) for number, end in ends.items())
            if not behind:
                return
            if time.perf_counter() > deadline:
                raise BenchError(f"{behind:,} records are not done after {within_s:g} s")
            await asyncio.sleep(_POLL_S)

    async def _rows(self, statement: LiteralString, *values: object) -> list[Any]:
        return await (await self._connection.execute(statement, values)).fetchall()


@asynccontextmanager
async def block_ledger(postgres_url: str, bootstrap: str, partitions: int) -> AsyncIterator[BlockLedger]:
    ends = LogEnds(KafkaSettings(bootstrap=bootstrap), USAGE_RAW, partitions, within_s=10.0, kept_s=0.0)
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        try:
            yield BlockLedger(connection, ends)
        finally:
            await ends.close()
