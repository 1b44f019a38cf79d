"""One partition in one tenure: collects records into a block, closes it in time, writes it, acknowledges it.

Blocks of different partitions are independent tasks. Within a partition one block is written after the other: while one
is being inserted the next is collected and judged, and what is done begins what follows in one transaction. A block is
acknowledged in order, only when it is done and its deltas are acknowledged.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import structlog

from domain.blocks import EVALUATOR
from domain.instants import EPOCH, milliseconds
from domain.records import LogRecord
from runtime import metrics
from schemas.ledger import LedgerBlock, LedgerPartition
from streams.ingest_block import BlockEvaluator, PreparedBlock
from streams.ingest_deps import IngestDeps
from streams.ingest_writer import BlockWriter
from streams.retry import until_available

# About what a small event takes in a record.
_BYTES_AN_EVENT = 150
# So much in a block keeps it open for its age once more, up to so many times.
_STAY_BYTES = 500 * _BYTES_AN_EVENT
_STAY_MAX = 12.0
_GAP_POLL_S = 0.02

_log = structlog.get_logger(__name__)


class GapError(Exception):
    """A record is missing that the log has: the worker dies and reads again from the ledger's position."""


class StuckError(Exception):
    """The log has records that never came (protocol 16): the worker dies and reads again."""


class RejectStreakError(Exception):
    """So many events in a row were rejected that the partition stops, instead of draining the topic."""

    def __init__(self, partition: int, streak: int, code: str) -> None:
        super().__init__(f"{streak} events in a row were rejected, the last as {code}")
        self.partition = partition


class Held(NamedTuple):
    """A record that is not done, and what acknowledges it."""

    record: LogRecord
    event: Any


class Flight(NamedTuple):
    """A block between its intent and done. `stored` ends when all is there that must be before it is done."""

    block: PreparedBlock
    held: list[Held]
    began_at: float
    stored: "asyncio.Task[LedgerBlock]"


class Partition:
    """The open block of a partition and the task that writes it."""

    def __init__(
        self,
        deps: IngestDeps,
        ledger: LedgerPartition,
        evaluator: BlockEvaluator,
        writer: BlockWriter,
        is_drained: Callable[[], bool],
        *,
        rejected_in_a_row: int = 0,
    ) -> None:
        self._deps = deps
        self._is_drained = is_drained
        self._number = ledger.partition
        self._epoch = ledger.epoch
        self._version = ledger.version
        self._evaluator = evaluator
        self._writer = writer
        self._held: list[Held] = []
        self._bytes = 0
        self._flying: Flight | None = None
        self._opened_at = 0.0
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._behind_since: float | None = None
        # A former tenure's streak goes on, so that a restart drains nothing; what was let pass stops no sound event.
        self._rejected_in_a_row = min(rejected_in_a_row, deps.settings.ingest.reject_streak_max)
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
        if not self._held:
            self._opened_at = asyncio.get_running_loop().time()
            self._arrived.set()
        self._held.append(Held(record, event))
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
        try:
            while True:
                if await self._is_closed():
                    await self._write(self._take())
                elif self._flying is not None:
                    await self._land()
                else:
                    await self._idle()
        finally:
            if self._flying is not None:
                self._flying.stored.cancel()

    async def _is_closed(self) -> bool:
        """Wait for the open block to close. False when the block that flies is stored before that, or nothing came."""
        if not await self._comes(self._arrived, self._deps.settings.ingest.idle_after_s):
            return False
        while not self._is_due() and not (self._flying is not None and self._flying.stored.done()):
            left_s = self._due_at() - asyncio.get_running_loop().time()
            # An old block without one before it is due by now: time has gone on since it was asked.
            waits_for_former = left_s <= 0 and self._flying is not None
            await self._comes(self._full, None if waits_for_former else left_s)
        return self._is_due()

    def _is_due(self) -> bool:
        """Full; or old, and nothing before it is under way: while a slow store works, blocks grow instead of queueing."""
        if self._full.is_set():
            return True
        is_old = self._due_at() <= asyncio.get_running_loop().time()
        return is_old and (self._flying is None or self._flying.stored.done())

    def _due_at(self) -> float:
        """A block that fills fast stays open longer: an insert costs the store as much as thousands of its rows."""
        ages = min(1 + self._bytes / _STAY_BYTES, _STAY_MAX)
        return self._opened_at + ages * self._deps.settings.block_age_s

    async def _comes(self, sign: asyncio.Event, within_s: float | None) -> bool:
        """Whether `sign` is set within the time, and before the block that flies is stored."""
        if sign.is_set():
            return True
        waiting = asyncio.ensure_future(sign.wait())
        others = set() if self._flying is None else {self._flying.stored}
        try:
            await asyncio.wait({waiting, *others}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        return sign.is_set()

    def _is_full(self) -> bool:
        # Events are counted by their bytes: a record says how many it holds only once it is decoded.
        ingest = self._deps.settings.ingest
        return self._bytes >= min(ingest.block_max_bytes, ingest.block_max_events * _BYTES_AN_EVENT)

    def _take(self) -> list[Held]:
        """The closed block; the next one opens with the next record."""
        held, self._held, self._bytes = self._held, [], 0
        self._arrived.clear()
        self._full.clear()
        self._room.set()
        return held

    async def _write(self, held: list[Held]) -> None:
        """Judge and launch a closed block; in parts, where it is more than one insert may hold (protocol 2)."""
        began_at = self._opened_at
        parts = deque([held])
        while parts:
            part = parts.popleft()
            block = await self._prepare(part)
            if block is None or (len(part) > 1 and self._is_streak(block)):
                half = len(part) // 2
                parts.extendleft((part[half:], part[:half]))
                continue
            await self._brake(block)
            block = block.without_rows()
            await self._launch(block, part, began_at)

    async def _prepare(self, part: list[Held]) -> PreparedBlock | None:
        """The block before it is stored meanwhile, and was entered into the filter before."""
        records = [one.record for one in part]
        # protocol 7, 8: never older than what the API judged by, nor than the partition's last version.
        needed = max(self._version, *(record.version for record in records))
        await self._deps.catalog.wait_for(needed, self._deps.budget_s)
        return await self._evaluator.prepare(records, self._deps.catalog.current())

    def _is_streak(self, block: PreparedBlock) -> bool:
        return block.outcomes.reject_streak(self._rejected_in_a_row)[0] > self._deps.settings.ingest.reject_streak_max

    async def _brake(self, block: PreparedBlock) -> None:
        """Raises RejectStreakError, once what comes before is done. What is refused here stays in the log."""
        longest, last = block.outcomes.reject_streak(self._rejected_in_a_row)
        if self._is_streak(block):
            await self._land()
            raise RejectStreakError(self._number, longest, block.outcomes.rejected[-1].code)
        self._rejected_in_a_row = last

    async def _launch(self, block: PreparedBlock, held: list[Held], began_at: float) -> None:
        """Intent, in one transaction with done of the block before if there is one, and the insert under way."""
        former, self._flying = self._flying, None
        if former is None:
            opened = await self._writer.begin(block)
        else:
            opened = await self._writer.finish_and_begin(await former.stored, block)
        self._version = block.intent.version
        stored = asyncio.create_task(self._writer.store(opened, block), name=f"insert {block.token}")
        self._flying = Flight(block, held, began_at, stored)
        await self._writer.enter(block)
        if former is not None:
            await self._done(former)

    async def _land(self) -> None:
        """Done at once, when no next block is ready."""
        if self._flying is not None:
            flight = self._flying
            await self._writer.finish(await flight.stored)
            self._flying = None
            await self._done(flight)

    async def _done(self, flight: Flight) -> None:
        """Protocol 3: the deltas of a done block before those of the next, and acknowledged before the Kafka commit."""
        await self._writer.tell(flight.block)
        self.done_offset = flight.block.intent.last_offset
        for one in flight.held:
            one.event.ack()
        metrics.worker_block_seconds.observe(asyncio.get_running_loop().time() - flight.began_at)

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
        if not self._held and self.next_offset == first:
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
        if self._held:
            return
        if end > self.next_offset:
            # protocol 16: a record lost at the end of a queue shows no gap, since none follows it. What still waits in
            # the worker's own queue, behind other partitions, is not lost.
            self._behind_since = (self._behind_since or loop.time()) if self._is_drained() else None
            if self._behind_since is None:
                return
            if loop.time() - self._behind_since > deps.settings.ingest.stuck_after_s:
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
