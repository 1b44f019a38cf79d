"""From records to a block that is ready for its intent: decode, ask the filter, judge, encode. No I/O but the filter's.

The work is done in the worker's evaluation thread, so that the event loop goes on fetching and answering. Where the
filter has gaps, the store is asked between two steps of it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from itertools import groupby
from typing import Any, TypeVar

import msgspec
import pyarrow as pa

from domain.blocks import (
    EVALUATOR,
    DecodedBlock,
    Outcomes,
    decode_block,
    judge_block,
    window_days,
)
from domain.candidates import Candidates
from domain.catalog import Catalog
from domain.instants import instant
from domain.known_copies import settled, unsettled
from domain.offset_ranges import OffsetRange
from domain.records import MS_PER_DAY, LogRecord
from schemas.blocks import StoredColumns
from schemas.ledger import Intent
from stores.clickhouse.blocks import BlockConstants, BlockTooLarge, encode_block
from stores.clickhouse.identities import KnownPosition
from stores.rocks.filter import DuplicateFilter
from streams.retry import until_available

T = TypeVar("T")
# The stored events with some identities in gaps of the filter, from an oldest log day on; None: the filter has them now.
LookUp = Callable[[Sequence[bytes], Sequence[OffsetRange], int], Awaitable[Sequence[KnownPosition] | None]]

# Identities of a filter found on disk that are read into memory with a block: some milliseconds.
_LEARNED_A_BLOCK = 20_000


class PreparedBlock(msgspec.Struct, frozen=True, kw_only=True):
    """A block judged and encoded (protocol 27: before its intent). `token` names its range, so a retry is a no-op."""

    outcomes: Outcomes
    intent: Intent
    batch: pa.RecordBatch
    token: str

    def without_rows(self) -> "PreparedBlock":
        """The rows as lists take six times the memory of the batch, and every partition may have a block that waits."""
        return msgspec.structs.replace(self, outcomes=msgspec.structs.replace(self.outcomes, stored=StoredColumns()))


class _Question(msgspec.Struct, frozen=True):
    """A block whose candidates at `places` the filter cannot judge alone."""

    decoded: DecodedBlock
    known: list[bytes | None]
    places: list[int]
    gaps: list[OffsetRange]


class BlockEvaluator:
    """Evaluates the blocks of one partition against its filter.

    Calls are made one after the other: `evaluation` is a single thread, and the filter below a block holds every block
    before it once that one's `enter` was called.
    """

    def __init__(
        self,
        *,
        topic_id: str,
        partition: int,
        partitions: int,
        shards: int,
        duplicates: DuplicateFilter,
        evaluation: Executor,
        look_up: LookUp | None = None,
        budget_s: float = 0.0,
    ) -> None:
        self._evaluation = evaluation
        self._topic_id = topic_id
        self._partition = partition
        self._partitions = partitions
        self._shards = shards
        self._filter = duplicates
        self._look_up = look_up
        self._budget_s = budget_s

    async def prepare(self, records: Sequence[LogRecord], catalog: Catalog) -> PreparedBlock | None:
        """`records` (contiguous) as one block; None where they must be split first (protocol 2).

        A function of the records, the filter below them and the catalog's version (protocol 7).
        """
        answer = await self._in_thread(self._prepare, records, catalog)
        while isinstance(answer, _Question):
            stored = await self._ask_store(answer)
            if stored is None:
                answer = await self._in_thread(self._ask_filter, answer.decoded)
            else:
                answer = await self._in_thread(self._answer, answer, stored)
        return answer

    async def enter(self, outcomes: Outcomes, oldest_day: int) -> None:
        """Enter a block's first copies. Only once its intent fixed the version that judged them (protocol 12, 13)."""
        await self._in_thread(self._enter, outcomes, oldest_day)

    async def _in_thread(self, step: Callable[..., T], *arguments: Any) -> T:
        """Steps wait in place for a full disk, as for any service: each is safe to repeat."""
        loop = asyncio.get_running_loop()

        async def attempt() -> T:
            return await loop.run_in_executor(self._evaluation, step, *arguments)

        return await until_available(attempt, self._budget_s, step="filter")

    async def _ask_store(self, question: _Question) -> Sequence[KnownPosition] | None:
        if self._look_up is None:
            raise LookupError(f"the filter of partition {self._partition} has gaps, and there is nobody to ask")
        asked = [question.decoded.candidates[place] for place in question.places]
        days = window_days(question.decoded.catalog)
        oldest_day = min(candidate.log_day for candidate in asked) - days
        return await self._look_up([candidate.identity for candidate in asked], question.gaps, oldest_day)

    def _prepare(self, records: Sequence[LogRecord], catalog: Catalog) -> PreparedBlock | _Question | None:
        return self._ask_filter(decode_block(records, self._partition, self._partitions, catalog))

    def _ask_filter(self, decoded: DecodedBlock) -> PreparedBlock | _Question | None:
        known = self._known(decoded.candidates, decoded.catalog)
        gaps = self._filter.gaps
        if gaps and (places := unsettled(decoded.candidates, known)):
            return _Question(decoded, known, places, gaps)
        return self._judged(decoded, known)

    def _answer(self, question: _Question, stored: Sequence[KnownPosition]) -> PreparedBlock | None:
        decoded = question.decoded
        rows = ((row.identity, row.offset, row.index, row.logged_at_ms) for row in stored)
        known = settled(decoded.candidates, question.known, rows, window_days(decoded.catalog))
        return self._judged(decoded, known)

    def _judged(self, decoded: DecodedBlock, known: Sequence[bytes | None]) -> PreparedBlock | None:
        outcomes = judge_block(decoded, known)
        splittable = len(decoded.records) > 1
        if outcomes.too_wide and splittable:
            return None
        try:
            return self._encoded(outcomes)
        except BlockTooLarge:
            if splittable:
                return None
            raise

    def _enter(self, outcomes: Outcomes, oldest_day: int) -> None:
        self._filter.apply(outcomes.accepted, outcomes.last_offset)
        self._filter.forget_before(oldest_day)
        self._filter.learn(_LEARNED_A_BLOCK)

    def _known(self, candidates: Candidates, catalog: Catalog) -> list[bytes | None]:
        days = window_days(catalog)
        known: list[bytes | None] = []
        # A backlog may span midnight: each record is judged by its own log time (protocol 21).
        for day, group in groupby(at // MS_PER_DAY for at in candidates.logged_at_ms):
            count = len(list(group))
            known += self._filter.earliest(candidates.identity[len(known) : len(known) + count], day, days)
        return known

    def _encoded(self, outcomes: Outcomes) -> PreparedBlock:
        constants = BlockConstants(
            topic_id=self._topic_id,
            partition=self._partition,
            first_offset=outcomes.first_offset,
            last_offset=outcomes.last_offset,
            version=outcomes.version,
            evaluator=EVALUATOR,
            first_logged_at_ms=outcomes.first_logged_at_ms,
        )
        batch = encode_block(outcomes.stored, constants)
        return PreparedBlock(outcomes=outcomes, intent=self._intent(outcomes), batch=batch, token=constants.token)

    def _intent(self, outcomes: Outcomes) -> Intent:
        return Intent(
            topic_id=self._topic_id,
            partition=self._partition,
            first_offset=outcomes.first_offset,
            last_offset=outcomes.last_offset,
            shard=self._partition % self._shards,  # protocol 20
            version=outcomes.version,
            evaluator=EVALUATOR,
            stored=len(outcomes.stored),
            duplicate=len(outcomes.duplicates),
            rejected=len(outcomes.rejected),
            forwarded=sum(record.events for record in outcomes.forwarded),
            counts=outcomes.counts,
            row_hash=outcomes.row_hash,
            max_event_at=None if outcomes.max_event_ms is None else instant(outcomes.max_event_ms),
            first_logged_at=instant(outcomes.first_logged_at_ms),
            last_logged_at=instant(outcomes.last_logged_at_ms),
        )
