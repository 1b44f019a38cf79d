"""Taking a partition over: fence, stores, filter, deltas of done blocks, open intent, in this order (protocol 11, 12, 3)."""

from collections.abc import Awaitable, Callable

import structlog

from domain.block_deltas import ChangeSet
from domain.instants import milliseconds
from schemas.ledger import LedgerBlock, LedgerPartition
from stores.clickhouse.block_outcomes import stored_matches
from stores.postgres.ledger import Fenced
from streams.ingest_block import BlockEvaluator
from streams.ingest_checks import StoreChecks
from streams.ingest_completion import Completion
from streams.ingest_deps import IngestDeps
from streams.ingest_filter import PartitionFilter
from streams.ingest_partition import Partition
from streams.ingest_writer import BlockWriter
from streams.retry import until_available

_log = structlog.get_logger(__name__)


class Recovery:
    """The take-over of one partition by this worker."""

    def __init__(
        self,
        deps: IngestDeps,
        partition: int,
        generation: int,
        duplicates: PartitionFilter,
        is_drained: Callable[[], bool],
        is_owner: Callable[[], Awaitable[bool]],
    ) -> None:
        self._deps = deps
        self._is_drained = is_drained
        self._is_owner = is_owner
        self._number = partition
        self._generation = generation
        self._filter = duplicates
        self._evaluator = BlockEvaluator(
            topic_id=deps.topic_id,
            partition=partition,
            partitions=deps.partitions,
            shards=deps.settings.clickhouse.shards,
            duplicates=duplicates.duplicates,
            evaluation=deps.evaluation,
            look_up=duplicates.look_up,
            budget_s=deps.budget_s,
        )

    async def take_over(self, committed: int) -> Partition:
        """The partition, ready for the record after the ledger's last. `committed`: Kafka's committed next offset.

        Safe to repeat at any point: a newer epoch starts from the beginning. Raises `Fenced` for an older generation
        of the group.
        """
        deps = self._deps
        state = await self._fence()
        opened = await until_available(
            lambda: deps.ledger.open_block(deps.topic_id, self._number), deps.budget_s, step="open block"
        )
        await StoreChecks(deps, self._number).run(state, opened, committed)
        # protocol 8: a successor waits until its catalog has reached the partition's version.
        await deps.catalog.wait_for(state.version, deps.budget_s)
        await self._filter.bring_up(state)
        writer = BlockWriter(deps, self._number, state.epoch, self._evaluator)
        await self._repeat_deltas(writer, committed)
        if opened is not None:
            await Completion(deps, self._number, self._evaluator).complete(writer, state, opened)
            refreshed = await until_available(
                lambda: deps.ledger.partition(deps.topic_id, self._number), deps.budget_s, step="partition"
            )
            state = refreshed or state
        streak = await until_available(
            lambda: deps.ledger.rejected_in_a_row(deps.topic_id, self._number), deps.budget_s, step="streak"
        )
        _log.info("took a partition over", partition=self._number, epoch=state.epoch, last_offset=state.last_offset)
        return Partition(deps, state, self._evaluator, writer, self._is_drained, rejected_in_a_row=streak)

    async def _fence(self) -> LedgerPartition:
        """Protocol 11, 19: the epoch first. A group that Kafka has forgotten counts its generations anew: then the broker
        itself says whether we own the partition, since it takes a commit from the current generation only.
        """
        deps = self._deps

        async def attempt(generation: int) -> LedgerPartition:
            return await until_available(
                lambda: deps.ledger.take_over(deps.topic_id, self._number, generation), deps.budget_s, step="take over"
            )

        try:
            return await attempt(self._generation)
        except Fenced:
            known = await until_available(
                lambda: deps.ledger.partition(deps.topic_id, self._number), deps.budget_s, step="partition"
            )
            if known is None or not await self._is_owner():
                raise
            _log.warning(
                "the consumer group is younger than the ledger",
                partition=self._number,
                generation=self._generation,
                ledger=known.generation,
            )
            return await attempt(known.generation)

    async def _repeat_deltas(self, writer: BlockWriter, committed: int) -> None:
        """Protocol 3: a predecessor may have died between done and its deltas: repeat those above the Kafka commit."""
        deps = self._deps
        blocks = await until_available(
            lambda: deps.ledger.done_blocks_above(deps.topic_id, self._number, committed - 1),
            deps.budget_s,
            step="blocks",
        )
        for block in blocks:
            # A row that stands for many blocks is older than any delta that may still be missing.
            if block.blocks == 1:
                await self._repeat(writer, block)

    async def _repeat(self, writer: BlockWriter, block: LedgerBlock) -> None:
        deps, intent = self._deps, block.intent
        matches = await until_available(
            lambda: stored_matches(
                deps.clickhouse, deps.topic_id, self._number, intent.first_offset, intent.last_offset
            ),
            deps.budget_s,
            step="matches",
        )
        changes = ChangeSet(self._number)
        for match in matches:
            owner = (match.tenant, match.environment, match.customer_id)
            key = (*owner, match.meter, match.generation, match.time_ms // 1000)
            changes.add(key, match.value, match.time_ms, match.logged_at_ms, match.offset, match.index)
        await writer.send_deltas(
            first_offset=intent.first_offset,
            last_offset=intent.last_offset,
            version=intent.version,
            # A gap has no log time: it says nothing about freshness.
            as_of_ms=milliseconds(intent.last_logged_at) if block.state == "done" else 0,
            changes=changes.changes(),
        )
