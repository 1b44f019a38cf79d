"""One partition in one tenure: collects records into a block, closes it in time, writes it, acknowledges it.

Blocks of different partitions are independent tasks; within a partition one block is written after the other, and
acknowledged in order, only when it is done and its deltas are acknowledged.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import structlog

from domain.blocks import EVALUATOR
from domain.catalog import Catalog
from domain.records import LogRecord
from runtime import metrics
from schemas.ledger import LedgerPartition
from streams.ingest_block import EPOCH, BlockEvaluator, milliseconds
from streams.ingest_deps import IngestDeps
from streams.ingest_writer import BlockWriter
from streams.retry import until_available

IDLE_AFTER_S = 1.0
STUCK_AFTER_S = 5.0
# About what a small event takes in a record.
_BYTES_AN_EVENT = 150
_GAP_POLL_S = 0.02

_log = structlog.get_logger(__name__)


class GapError(Exception):
    """A record is missing that the log has: the worker dies and reads again from the ledger's position."""


class StuckError(Exception):
    """The log has records that never came (protocol 16): the worker dies and reads again."""


class RejectStreakError(Exception):
    """So many events in a row were rejected that the partition stops, instead of draining the topic."""


class Partition:
    """The open block of a partition and the task that writes it."""

    def __init__(
        self,
        deps: IngestDeps,
        ledger: LedgerPartition,
        evaluator: BlockEvaluator,
        writer: BlockWriter,
        is_drained: Callable[[], bool],
    ) -> None:
        self._deps = deps
        self._is_drained = is_drained
        self._number = ledger.partition
        self._epoch = ledger.epoch
        self._version = ledger.version
        self._evaluator = evaluator
        self._writer = writer
        self._records: list[LogRecord] = []
        self._events: list[Any] = []
        self._bytes = 0
        self._opened_at = 0.0
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._behind_since: float | None = None
        self._rejected_in_a_row = 0
        self._closed = False
        self.done_offset = ledger.last_offset
        self.next_offset = ledger.last_offset + 1

    async def accept(self, record: LogRecord, event: Any) -> None:
        """Take the next record; waits while the block is full and the one before is still being written.

        What is done already is acknowledged at once; what is held already (it was delivered twice) is left to its
        first delivery. A gap that the log confirms is recorded (protocol 17), any other ends the worker.
        """
        await self._room.wait()
        if self._closed:
            return
        if record.offset < self.next_offset:
            if record.offset <= self.done_offset:
                event.ack()
            return
        if record.offset > self.next_offset:
            await self._cross_gap(record.offset)
        # What still moves is not stuck: an instant in which the end was ahead must not count on while records come.
        self._behind_since = None
        if not self._records:
            self._opened_at = asyncio.get_running_loop().time()
            self._arrived.set()
        self._records.append(record)
        self._events.append(event)
        self._bytes += len(record.value)
        self.next_offset = record.offset + 1
        if self._is_full():
            self._full.set()
            self._room.clear()

    def close(self) -> None:
        """Lost to another owner: what is held is forgotten, and nobody waits for room any more."""
        self._closed = True
        self._room.set()

    async def run(self) -> None:
        """Write blocks as they close; while there is none, say once a second how far the partition is. For ever."""
        while True:
            try:
                async with asyncio.timeout(IDLE_AFTER_S):
                    await self._arrived.wait()
            except TimeoutError:
                await self._idle()
                continue
            left_s = self._opened_at + self._deps.settings.ingest.block_max_age_s - asyncio.get_running_loop().time()
            if left_s > 0:
                try:
                    async with asyncio.timeout(left_s):
                        await self._full.wait()
                except TimeoutError:
                    pass
            await self._close_block()

    def _is_full(self) -> bool:
        # Events are counted by their bytes: a record says how many it holds only once it is decoded.
        ingest = self._deps.settings.ingest
        return self._bytes >= min(ingest.block_max_bytes, ingest.block_max_events * _BYTES_AN_EVENT)

    async def _close_block(self) -> None:
        records, events, opened_at = self._records, self._events, self._opened_at
        self._records, self._events, self._bytes = [], [], 0
        self._arrived.clear()
        self._full.clear()
        self._room.set()
        # protocol 7, 8: never older than what the API judged by, nor than the partition's last version.
        needed = max(self._version, *(record.version for record in records))
        await self._deps.catalog.wait_for(needed, self._deps.budget_s)
        await self._write(records, self._deps.catalog.current())
        for event in events:
            event.ack()
        metrics.worker_block_seconds.observe(asyncio.get_running_loop().time() - opened_at)

    async def _write(self, records: Sequence[LogRecord], catalog: Catalog) -> None:
        prepared = await self._evaluator.prepare(records, catalog)
        if prepared is None:
            half = len(records) // 2
            await self._write(records[:half], catalog)
            await self._write(records[half:], catalog)
            return
        longest, self._rejected_in_a_row = prepared.outcomes.reject_streak(self._rejected_in_a_row)
        if longest > self._deps.settings.ingest.reject_streak_max:
            raise RejectStreakError(
                f"partition {self._number}: {longest} events in a row were rejected,"
                f" the last as {prepared.outcomes.rejected[-1].code}"
            )
        await self._writer.write(prepared)
        self._version = catalog.version
        self.done_offset = prepared.intent.last_offset

    async def _cross_gap(self, found: int) -> None:
        """Protocol 17: only what a fresh fetch does not find either is a gap of the log."""
        first = self.next_offset
        there = await until_available(
            lambda: self._deps.log.next_at_or_after(self._number, first), self._deps.budget_s, step="gap"
        )
        if there != found:
            raise GapError(f"partition {self._number}: record {first} was expected, {found} came, the log has {there}")
        # What is held lies before the gap and goes first.
        while self.done_offset != first - 1:
            if self._closed:
                return
            self._full.set()
            await asyncio.sleep(_GAP_POLL_S)
        await self._record_gap(first, found - 1)

    async def _end_or_stuck(self, end: int) -> None:
        """Markers of transactions at the end of the log are a gap too; a record that a fresh fetch finds was lost here."""
        first = self.next_offset
        there = await until_available(
            lambda: self._deps.log.next_at_or_after(self._number, first), self._deps.budget_s, step="gap"
        )
        if there is not None:
            raise StuckError(f"partition {self._number}: record {there} of {end} has not come")
        if not self._records and self.next_offset == first:
            await self._record_gap(first, end - 1)
            await self._deps.commit(self._number, end)

    async def _record_gap(self, first: int, last: int) -> None:
        _log.error("the log has a gap", partition=self._number, first_offset=first, last_offset=last)
        metrics.worker_gaps.inc()
        self.next_offset = last + 1
        await until_available(
            lambda: self._deps.ledger.record_gap(
                self._epoch,
                topic_id=self._deps.topic_id,
                partition=self._number,
                first_offset=first,
                last_offset=last,
                evaluator=EVALUATOR,
            ),
            self._deps.budget_s,
            step="gap",
        )
        self.done_offset = last
        await self._tick(first, last, EPOCH)  # an empty block that says nothing about freshness

    async def _idle(self) -> None:
        deps, loop = self._deps, asyncio.get_running_loop()
        asked_at = deps.clock.now()
        end = await until_available(lambda: deps.end_offset(self._number), deps.budget_s, step="end offset")
        if self._records:
            return
        if end > self.next_offset:
            # protocol 16: a record lost at the end of a queue shows no gap, since none follows it. What still waits in
            # the worker's own queue, behind other partitions, is not lost.
            self._behind_since = (self._behind_since or loop.time()) if self._is_drained() else None
            if self._behind_since is None:
                return
            if loop.time() - self._behind_since > STUCK_AFTER_S:
                await self._end_or_stuck(end)
            return
        self._behind_since = None
        await self._take_version_over()
        # protocol 26: the ledger has reached the end that was asked for at `asked_at`.
        as_of = asked_at - timedelta(seconds=deps.settings.ingest.clock_skew_s)
        await until_available(
            lambda: deps.ledger.mark_idle(self._epoch, deps.topic_id, self._number, as_of), deps.budget_s, step="idle"
        )
        await self._tick(self.done_offset + 1, self.done_offset, as_of)

    async def _take_version_over(self) -> None:
        """Protocol 4: seeds of what appeared in a version wait until every partition has taken it over."""
        version = self._deps.catalog.head
        if version <= self._version:
            return
        await until_available(
            lambda: self._deps.ledger.record_empty(
                self._epoch,
                topic_id=self._deps.topic_id,
                partition=self._number,
                last_offset=self.done_offset,
                version=version,
                evaluator=EVALUATOR,
            ),
            self._deps.budget_s,
            step="version",
        )
        self._version = version

    async def _tick(self, first_offset: int, last_offset: int, as_of: Any) -> None:
        await self._writer.send_deltas(
            first_offset=first_offset,
            last_offset=last_offset,
            version=self._version,
            as_of_ms=milliseconds(as_of),
            changes=(),
        )
