"""Bringing the duplicate filter of a partition up to its ledger, from `events` (protocol 11, 21)."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import structlog

from domain.blocks import pack_position, window_days
from domain.records import MS_PER_DAY
from schemas.ledger import LedgerBlock, LedgerPartition
from stores.clickhouse.block_outcomes import IDENTITIES_A_READ, stored_identities
from stores.rocks.filter import DuplicateFilter
from streams.ingest_block import milliseconds
from streams.ingest_deps import IngestDeps
from streams.ingest_errors import LedgerMismatchError
from streams.retry import until_available

_VERIFY_ATTEMPTS = 30
_VERIFY_WAIT_S = 1.0

_log = structlog.get_logger(__name__)


class FilterRebuild:
    """The filter of one partition. Called under the new epoch only: what the predecessor finished must be in it."""

    def __init__(self, deps: IngestDeps, partition: int, duplicates: DuplicateFilter) -> None:
        self._deps = deps
        self._number = partition
        self._filter = duplicates

    async def bring_up(self, state: LedgerPartition) -> None:
        """Protocol 11: what lies between the filter's position and the ledger's comes from `events`, verified by count."""
        deps = self._deps
        applied = self._filter.applied
        if applied >= state.last_offset:
            return
        blocks = await until_available(
            lambda: deps.ledger.done_blocks_above(deps.topic_id, self._number, applied), deps.budget_s, step="blocks"
        )
        done = [block for block in blocks if block.state == "done"]
        if not done:
            await self._in_thread([], state.last_offset)
            return
        newest_day = milliseconds(done[-1].intent.last_logged_at) // MS_PER_DAY
        oldest_day = newest_day - window_days(deps.catalog.current())
        # protocol 21: what has left the window is not needed any more, and need not be in `events` either.
        needed = [block for block in done if milliseconds(block.intent.last_logged_at) // MS_PER_DAY >= oldest_day]
        batch: list[LedgerBlock] = []
        for block in needed:
            batch.append(block)
            if sum(one.intent.stored for one in batch) >= IDENTITIES_A_READ:
                await self._read_back(batch)
                batch = []
        if batch:
            await self._read_back(batch)
        await self._in_thread([], state.last_offset)
        _log.info("brought the filter up", partition=self._number, blocks=len(needed), applied=state.last_offset)

    async def _read_back(self, blocks: Sequence[LedgerBlock]) -> None:
        deps = self._deps
        first, last = blocks[0].intent.first_offset, blocks[-1].intent.last_offset
        expected = {block.intent.first_offset: block.intent.stored for block in blocks if block.intent.stored}
        for _ in range(_VERIFY_ATTEMPTS):
            rows = await until_available(
                lambda: stored_identities(deps.clickhouse, deps.topic_id, self._number, first, last),
                deps.budget_s,
                step="identities",
            )
            found = Counter(row.first_offset for row in rows)
            if found == expected:
                entries = [
                    (row.identity, pack_position(row.offset, row.index), row.logged_at_ms // MS_PER_DAY) for row in rows
                ]
                await self._in_thread(entries, last)
                return
            await asyncio.sleep(_VERIFY_WAIT_S)
        wrong = sorted(offset for offset in expected.keys() | found.keys() if expected.get(offset) != found.get(offset))
        raise LedgerMismatchError(
            f"partition {self._number}: the blocks at {wrong[:5]} do not have the rows in events that the ledger names"
        )

    async def _in_thread(self, entries: list[tuple[bytes, bytes, int]], applied: int) -> None:
        await asyncio.get_running_loop().run_in_executor(
            self._deps.evaluation, self._filter.enter_earlier, entries, applied
        )
