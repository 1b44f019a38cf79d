"""Taking a partition over: fence, filter, open intent, deltas of done blocks, in this order (protocol 11, 12, 3)."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import structlog

from domain.block_deltas import ChangeSet
from domain.blocks import EVALUATOR, pack_position, window_days
from domain.records import MS_PER_DAY
from schemas.ledger import LedgerBlock, LedgerPartition
from stores.clickhouse.block_outcomes import IDENTITIES_A_READ, stored_count, stored_identities, stored_matches
from stores.clickhouse.tokens import token_windows
from stores.postgres.ledger import Fenced
from stores.rocks.filter import DuplicateFilter
from streams.ingest_block import BlockEvaluator, milliseconds
from streams.ingest_deps import IngestDeps
from streams.ingest_partition import Partition
from streams.ingest_writer import BlockWriter
from streams.retry import until_available

_VERIFY_ATTEMPTS = 30
_VERIFY_WAIT_S = 1.0
_LARGEST_OFFSET = (1 << 63) - 1

_log = structlog.get_logger(__name__)


class BlockMismatchError(Exception):
    """A block cannot be completed as its intent promised: other rows, another evaluator. A person must look."""


class LedgerMismatchError(Exception):
    """`events` does not hold what the ledger says is done: a lagging replica that never caught up, a restored store."""


class Recovery:
    """The take-over of one partition by this worker."""

    def __init__(
        self,
        deps: IngestDeps,
        partition: int,
        generation: int,
        duplicates: DuplicateFilter,
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
            duplicates=duplicates,
        )

    async def take_over(self, committed: int) -> Partition:
        """The partition, ready for the record after the ledger's last. `committed`: Kafka's committed next offset.

        Safe to repeat at any point: a newer epoch starts from the beginning. Raises `Fenced` for an older generation
        of the group.
        """
        deps = self._deps
        state = await self._fence()
        # protocol 8: a successor waits until its catalog has reached the partition's version.
        await deps.catalog.wait_for(state.version, deps.budget_s)
        await self._bring_filter_up(state)
        writer = BlockWriter(deps, self._number, state.epoch, self._evaluator)
        await self._repeat_deltas(writer, committed)
        opened = await until_available(
            lambda: deps.ledger.open_block(deps.topic_id, self._number), deps.budget_s, step="open block"
        )
        await self._refuse_rows_beyond(state.last_offset if opened is None else opened.intent.last_offset)
        if opened is not None:
            await self._complete(writer, state, opened)
            refreshed = await until_available(
                lambda: deps.ledger.partition(deps.topic_id, self._number), deps.budget_s, step="partition"
            )
            state = refreshed or state
        _log.info("took a partition over", partition=self._number, epoch=state.epoch, last_offset=state.last_offset)
        return Partition(deps, state, self._evaluator, writer, self._is_drained)

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

    async def _refuse_rows_beyond(self, offset: int) -> None:
        """Protocol 18: rows that the ledger knows nothing of mean that it was restored from a backup."""
        deps = self._deps
        found = await until_available(
            lambda: stored_count(deps.clickhouse, deps.topic_id, self._number, offset + 1, _LARGEST_OFFSET),
            deps.budget_s,
            step="look",
        )
        if found:
            raise LedgerMismatchError(
                f"partition {self._number}: events has {found} rows beyond the ledger's {offset}: was PostgreSQL restored"
                " from a backup? Other blocks and other tokens would count them twice"
            )

    async def _bring_filter_up(self, state: LedgerPartition) -> None:
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

    async def _repeat_deltas(self, writer: BlockWriter, committed: int) -> None:
        """Protocol 3: a predecessor may have died between done and its deltas: repeat those above the Kafka commit."""
        deps = self._deps
        blocks = await until_available(
            lambda: deps.ledger.done_blocks_above(deps.topic_id, self._number, committed - 1),
            deps.budget_s,
            step="blocks",
        )
        for block in blocks:
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

    async def _complete(self, writer: BlockWriter, state: LedgerPartition, opened: LedgerBlock) -> None:
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
        prepared = await asyncio.get_running_loop().run_in_executor(
            deps.evaluation, self._evaluator.prepare, records, deps.catalog.at(intent.version)
        )
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
