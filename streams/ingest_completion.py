"""Completing a block that a predecessor began: same rows, same token; an old one only after looking (protocol 1, 7, 12)."""

import asyncio
from datetime import timedelta

import structlog

from domain.blocks import EVALUATOR
from schemas.ledger import LedgerBlock, LedgerPartition
from stores.clickhouse.block_outcomes import stored_count
from stores.clickhouse.tokens import token_windows
from streams.ingest_block import BlockEvaluator
from streams.ingest_deps import IngestDeps
from streams.ingest_errors import BlockMismatchError
from streams.ingest_writer import BlockWriter
from streams.retry import until_available

_log = structlog.get_logger(__name__)


class Completion:
    """The open block of one partition, under the successor's epoch."""

    def __init__(self, deps: IngestDeps, partition: int, evaluator: BlockEvaluator) -> None:
        self._deps = deps
        self._number = partition
        self._evaluator = evaluator

    async def complete(self, writer: BlockWriter, state: LedgerPartition, opened: LedgerBlock) -> None:
        """An intent that is not done: the same range at the same version gives the same rows, under the same token."""
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
        renewed = await until_available(
            lambda: deps.ledger.renew(state.epoch, opened, deps.settings.ingest.insert_deadline_s),
            deps.budget_s,
            step="renew",
        )
        if deps.clock.now() - opened.intent_at >= timedelta(seconds=deps.settings.ingest.token_horizon_s):
            await self._look(opened)
        _log.info("completing an open block", partition=self._number, block=prepared.token)
        await writer.complete(renewed, prepared)

    async def _look(self, opened: LedgerBlock) -> None:
        """Return where an old intent's block may be inserted: its rows are absent, or its token is surely remembered.

        protocol 1: no request of a former owner may still be on its way when we look: the deadline that it was sent
        with has passed, by more than the clocks differ. Tables that are not replicated remember tokens by number, not
        by age, so while fewer blocks were begun since than they remember, the retry is a no-op all the same.
        """
        deps, ingest = self._deps, self._deps.settings.ingest
        left = opened.insert_before + timedelta(seconds=ingest.clock_skew_s) - deps.clock.now()
        await asyncio.sleep(max(left / timedelta(seconds=1), 0))
        intent = opened.intent
        found = await until_available(
            lambda: stored_count(deps.clickhouse, deps.topic_id, self._number, intent.first_offset, intent.last_offset),
            deps.budget_s,
            step="look",
        )
        if found == 0 or await self._remembers(opened):
            return
        raise BlockMismatchError(
            f"partition {self._number}: block {intent.first_offset}-{intent.last_offset} has {found} rows in events, but"
            " whether usage_windows has them can no longer be told by its token: rebuild the windows it touched"
        )

    async def _remembers(self, opened: LedgerBlock) -> bool:
        deps = self._deps
        if deps.clickhouse.cluster:
            return False
        done = await until_available(
            lambda: deps.ledger.done_since(deps.topic_id, opened.intent_at), deps.budget_s, step="blocks"
        )
        return done + deps.partitions < token_windows(deps.settings).events
