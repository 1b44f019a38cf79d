"""The steps of a block; their order is the caller's: intent, insert and outcomes, done, deltas (protocol 3).

Every step is safe to repeat and waits in place for a service that is away. A step that finds the partition lost raises
`Fenced`; after the retry budget `Unavailable` is raised: either ends the worker with the block unacknowledged.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TypeVar

import msgspec
import structlog

from domain.blocks import window_days
from domain.identity import customer_partition
from domain.instants import milliseconds
from domain.records import MS_PER_DAY
from runtime import metrics
from schemas.blocks import RefusedEvent
from schemas.deltas import BlockDeltas, UsageChange
from schemas.events import Position, RejectedRecord
from schemas.ledger import LedgerBlock
from schemas.topics import USAGE_DELTAS, USAGE_REJECTED
from stores.clickhouse.block_outcomes import insert_duplicates, insert_refused
from stores.clickhouse.blocks import DeadlinePassed, insert_block
from streams.ingest_block import BlockEvaluator, PreparedBlock
from streams.ingest_deps import IngestDeps
from streams.ingest_errors import OldIntentError
from streams.retry import until_available

T = TypeVar("T")

# As base64 it must fit into a record of usage.rejected; the row has all of it.
_ORIGINAL_MAX_BYTES = 14 << 20

_encoder = msgspec.json.Encoder()
_log = structlog.get_logger(__name__)


class BlockWriter:
    """Writes the blocks of one partition under one epoch."""

    def __init__(self, deps: IngestDeps, partition: int, epoch: int, evaluator: BlockEvaluator) -> None:
        self._deps = deps
        self._partition = partition
        self._epoch = epoch
        self._evaluator = evaluator

    async def begin(self, block: PreparedBlock) -> LedgerBlock:
        """The intent of a block whose predecessor is done."""
        deadline_s = self._deps.settings.ingest.insert_deadline_s
        return await self._patiently(
            lambda: self._deps.ledger.write_intent(self._epoch, block.intent, deadline_s), "intent"
        )

    async def enter(self, block: PreparedBlock) -> None:
        """The first copies of a block whose intent is written, into the filter: the next block is judged after this."""
        await self._evaluator.enter(block.outcomes, self._oldest_day(block))

    async def store(self, opened: LedgerBlock, block: PreparedBlock) -> LedgerBlock:
        """Rows, windows and outcomes of a block with an intent: all that must be there before it is done."""
        opened = await self._insert(opened, block)
        await self.leave_outcomes(block)
        return opened

    async def finish(self, opened: LedgerBlock) -> None:
        """Done, when no next block is ready."""
        await self._patiently(lambda: self._deps.ledger.finish(self._epoch, opened), "done")

    async def finish_and_begin(self, opened: LedgerBlock, following: PreparedBlock) -> LedgerBlock:
        """Done, and the intent of the block that waits behind it: one transaction a block while there is a backlog."""
        deadline_s = self._deps.settings.ingest.insert_deadline_s
        return await self._patiently(
            lambda: self._deps.ledger.finish_and_intend(self._epoch, opened, following.intent, deadline_s),
            "done and intent",
        )

    async def tell(self, block: PreparedBlock) -> None:
        """The deltas of a done block, acknowledged; to be called before those of any later block (protocol 3)."""
        await self.send_deltas(
            first_offset=block.intent.first_offset,
            last_offset=block.intent.last_offset,
            version=block.intent.version,
            as_of_ms=block.outcomes.last_logged_at_ms,
            changes=block.outcomes.changes,
        )
        self._count(block)

    async def complete(self, opened: LedgerBlock, block: PreparedBlock) -> None:
        """All that follows an intent, one step after the other: the way of a block that a predecessor began."""
        await self.enter(block)
        await self.finish(await self.store(opened, block))
        await self.tell(block)

    async def send_deltas(
        self, *, first_offset: int, last_offset: int, version: int, as_of_ms: int, changes: Sequence[UsageChange]
    ) -> None:
        """One record to every delta partition, also an empty one: its reader checks contiguity (protocol 22)."""
        partitions = self._deps.settings.kafka.balance_partitions
        shares: defaultdict[int, list[UsageChange]] = defaultdict(list)
        owners: dict[tuple[str, str, str], int] = {}
        for change in changes:
            owner = (change.tenant, change.environment, change.customer_id)
            target = owners.get(owner)
            if target is None:
                target = owners[owner] = customer_partition(*owner, partitions)
            shares[target].append(change)
        key = f"{self._deps.topic_id}/{self._partition}".encode()
        values = [
            _encoder.encode(
                BlockDeltas(
                    topic_id=self._deps.topic_id,
                    partition=self._partition,
                    first_offset=first_offset,
                    last_offset=last_offset,
                    version=version,
                    as_of_ms=as_of_ms,
                    changes=shares[target],
                )
            )
            for target in range(partitions)
        ]

        async def send() -> None:
            sends = [
                self._deps.producer.send(USAGE_DELTAS, target, key=key, value=value)
                for target, value in enumerate(values)
            ]
            await asyncio.gather(*sends)

        await self._patiently(send, "deltas")

    async def _insert(self, opened: LedgerBlock, block: PreparedBlock) -> LedgerBlock:
        """Protocol 1: the table refuses what comes after its deadline; a new one is the ledger's to give."""
        deps = self._deps

        async def attempt() -> LedgerBlock:
            current = opened
            while True:
                async with deps.inserts:
                    done = await self._insert_once(current, block)
                if done:
                    return current
                current = await deps.ledger.renew(self._epoch, current, deps.settings.ingest.insert_deadline_s)

        return await self._patiently(attempt, "insert")

    async def _insert_once(self, current: LedgerBlock, block: PreparedBlock) -> bool:
        """False when the deadline has passed, here or at the table. Raises OldIntentError."""
        age = self._deps.clock.now() - current.intent_at
        if age >= timedelta(seconds=self._deps.settings.ingest.token_horizon_s):
            # protocol 1: its token may be forgotten. The worker ends, and its successor looks first.
            raise OldIntentError(f"block {block.token} was not stored in {age}: it goes on after looking")
        left_s = (current.insert_before - self._deps.clock.now()) / timedelta(seconds=1)
        if left_s <= 0:
            return False
        try:
            await insert_block(
                self._deps.clickhouse,
                block.batch,
                token=block.token,
                cut=current.cut,
                insert_before=current.insert_before,
                deadline_s=left_s,
                shard=block.intent.shard,
            )
        except DeadlinePassed:
            _log.warning("an insert came after its deadline", block=block.token)
            return False
        return True

    async def leave_outcomes(self, block: PreparedBlock) -> None:
        """Before done, so that nothing a done block left out is anywhere but in a row or a record of its own."""
        deps, outcomes, partition = self._deps, block.outcomes, self._partition
        if outcomes.duplicates:
            await self._patiently(
                lambda: insert_duplicates(deps.clickhouse, deps.topic_id, partition, outcomes.duplicates), "duplicates"
            )
        if outcomes.rejected:
            await self._patiently(
                lambda: insert_refused(deps.clickhouse, deps.topic_id, partition, outcomes.rejected), "rejected"
            )
            await self._patiently(lambda: self._send_rejected(outcomes.rejected), "rejected records")
        if outcomes.forwarded:
            await self._patiently(lambda: self._forward(block), "forwarded")

    async def _send_rejected(self, refused: Sequence[RefusedEvent]) -> None:
        sends = [
            self._deps.producer.send(
                USAGE_REJECTED,
                self._partition,
                key=f"{self._deps.topic_id}/{self._partition}/{one.offset}/{one.index}".encode(),
                value=_encoder.encode(self._rejected_record(one)),
            )
            for one in refused
        ]
        await asyncio.gather(*sends)

    def _rejected_record(self, refused: RefusedEvent) -> RejectedRecord:
        return RejectedRecord(
            code=refused.code,
            message=refused.message,
            position=Position(
                topic_id=self._deps.topic_id, partition=self._partition, offset=refused.offset, index=refused.index
            ),
            tenant=refused.tenant,
            environment=refused.environment,
            received_at_ms=refused.received_at_ms,
            original=refused.original[:_ORIGINAL_MAX_BYTES],
            original_bytes=len(refused.original),
        )

    async def _forward(self, block: PreparedBlock) -> None:
        """Protocol 5: before done; a repeat is a duplicate there."""
        sends = [
            self._deps.producer.send(self._deps.topic, record.partition, value=record.value, headers=record.headers)
            for record in block.outcomes.forwarded
        ]
        await asyncio.gather(*sends)

    async def _patiently(self, attempt: Callable[[], Awaitable[T]], step: str) -> T:
        return await until_available(attempt, self._deps.budget_s, step=step)

    def _oldest_day(self, block: PreparedBlock) -> int:
        days = window_days(self._deps.catalog.at(block.intent.version))
        return milliseconds(block.intent.first_logged_at) // MS_PER_DAY - days

    def _count(self, block: PreparedBlock) -> None:
        intent = block.intent
        metrics.worker_blocks.inc()
        metrics.worker_events.labels("stored").inc(intent.stored)
        metrics.worker_events.labels("duplicate").inc(intent.duplicate)
        metrics.worker_events.labels("rejected").inc(intent.rejected)
        metrics.worker_events.labels("forwarded").inc(intent.forwarded)
