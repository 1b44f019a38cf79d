"""Completing a block that a predecessor began: same rows, same token; an old one under a lease, after looking (protocol 1, 7, 12)."""

import asyncio
from datetime import timedelta

import structlog

from domain.blocks import EVALUATOR
from domain.instants import milliseconds
from schemas.ledger import LedgerBlock, LedgerPartition
from stores.clickhouse.block_outcomes import stored_count
from stores.clickhouse.blocks import DeadlinePassed, insert_block
from stores.clickhouse.window_completion import WindowScope, add_missing, compare_windows, touched_by
from streams.ingest_block import BlockEvaluator, PreparedBlock
from streams.ingest_deps import IngestDeps
from streams.ingest_errors import BlockMismatchError
from streams.ingest_writer import BlockWriter
from streams.retry import until_available

# Others' blocks of the same cut are done at any moment: do not sleep through it.
_LEASE_POLL_S = 0.25

_log = structlog.get_logger(__name__)


class Completion:
    """The open block of one partition, under the successor's epoch."""

    def __init__(self, deps: IngestDeps, partition: int, evaluator: BlockEvaluator) -> None:
        self._deps = deps
        self._number = partition
        self._evaluator = evaluator

    async def complete(self, writer: BlockWriter, state: LedgerPartition, opened: LedgerBlock) -> None:
        """An intent that is not done: the same range at the same version gives the same rows, under the same token.

        An intent older than the horizon is stored without trusting its token. Raises BlockMismatchError where the rows
        are not those that were promised, or count twice already.
        """
        deps, intent = self._deps, opened.intent
        if intent.evaluator != EVALUATOR:
            raise BlockMismatchError(
                f"partition {self._number}: block {intent.first_offset}-{intent.last_offset} was begun by evaluator"
                f" {intent.evaluator}, this is {EVALUATOR}: run the former release until it is done"
            )
        records = await until_available(
            lambda: deps.log.read(self._number, intent.first_offset, intent.last_offset), deps.budget_s, step="range"
        )
        # protocol 12: through the filter again, even if its rows are stored already.
        prepared = await self._evaluator.prepare(records, deps.catalog.at(intent.version))
        if prepared is None or prepared.intent != intent:
            raise BlockMismatchError(
                f"partition {self._number}: block {intent.first_offset}-{intent.last_offset} does not give the rows"
                " that its intent promised"
            )
        _log.info("completing an open block", partition=self._number, block=prepared.token)
        if self._is_old(opened) and intent.stored:
            await self._complete_old(writer, state, opened, prepared)
            return
        renewed = await until_available(
            lambda: deps.ledger.renew(state.epoch, opened, deps.settings.ingest.insert_deadline_s),
            deps.budget_s,
            step="renew",
        )
        await writer.complete(renewed, prepared)

    def _is_old(self, opened: LedgerBlock) -> bool:
        horizon = timedelta(seconds=self._deps.settings.ingest.token_horizon_s)
        return self._deps.clock.now() - opened.intent_at >= horizon

    async def _complete_old(
        self, writer: BlockWriter, state: LedgerPartition, opened: LedgerBlock, block: PreparedBlock
    ) -> None:
        await writer.enter(block)
        leased = await until_available(lambda: self._store(state, opened, block), self._deps.budget_s, step="old block")
        await writer.leave_outcomes(block)
        await writer.finish(leased)
        await writer.tell(block)

    async def _store(self, state: LedgerPartition, opened: LedgerBlock, block: PreparedBlock) -> LedgerBlock:
        """The block's rows and windows, both whole, whatever became of earlier attempts. Safe to repeat."""
        while True:
            leased = await self._leased(state, opened)
            try:
                if await self._settle(leased, block):
                    return leased
            except DeadlinePassed:
                _log.warning("an old block was not stored before its deadline", block=block.token)

    async def _leased(self, state: LedgerPartition, opened: LedgerBlock) -> LedgerBlock:
        """Protocol 1: no request of a former owner, nor of any block of this cut, is on its way when we look."""
        deps, ingest = self._deps, self._deps.settings.ingest
        while True:
            found = await deps.ledger.lease(state.epoch, opened, ingest.insert_deadline_s, skew_s=ingest.clock_skew_s)
            if isinstance(found, LedgerBlock):
                return found
            await asyncio.sleep(min(found, _LEASE_POLL_S))

    async def _settle(self, leased: LedgerBlock, block: PreparedBlock) -> bool:
        """Look by position; insert what is not there, once; add to the windows what they lack, once. True: all is there."""
        deps, intent = self._deps, leased.intent
        first, last = intent.first_offset, intent.last_offset
        found = await stored_count(deps.clickhouse, deps.topic_id, self._number, first, last)
        if found not in {0, intent.stored}:
            raise BlockMismatchError(
                f"partition {self._number}: block {first}-{last} has {found} rows in events instead of {intent.stored}"
            )
        # Its former token may be remembered for rows that were lost since: the lease makes another one.
        token = f"{block.token}/{milliseconds(leased.insert_before)}"
        if not found:
            await insert_block(
                deps.clickhouse,
                block.batch,
                token=token,
                cut=leased.cut,
                insert_before=leased.insert_before,
                deadline_s=self._left_s(leased),
                shard=intent.shard,
            )
            return True
        scope = await touched_by(deps.clickhouse, deps.topic_id, self._number, first, last, leased.cut)
        if scope is None or not await self._lacks(leased, scope):
            return True
        await add_missing(
            deps.clickhouse,
            scope,
            token=token,
            insert_before=leased.insert_before,
            within_s=self._left_s(leased),
            shard=intent.shard,
        )
        return not await self._lacks(leased, scope)

    async def _lacks(self, leased: LedgerBlock, scope: WindowScope) -> int:
        difference = await compare_windows(self._deps.clickhouse, scope, within_s=self._left_s(leased))
        intent = leased.intent
        name = f"partition {self._number}: block {intent.first_offset}-{intent.last_offset}"
        if difference.over:
            raise BlockMismatchError(f"{name}: windows count more than events: {'; '.join(difference.samples)}")
        if difference.short:
            _log.warning("windows lack what events has", block=name, windows=difference.short)
        return difference.short

    def _left_s(self, leased: LedgerBlock) -> float:
        """What is left of the lease: nothing that was read after it is worth anything."""
        left_s = (leased.insert_before - self._deps.clock.now()) / timedelta(seconds=1)
        if left_s <= 0:
            raise DeadlinePassed(f"the lease on cut {leased.cut} ended at {leased.insert_before.isoformat()}")
        return left_s
