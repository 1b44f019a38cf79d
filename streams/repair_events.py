"""ClickHouse was restored: done blocks whose rows are gone are made again from the log, and put back (protocol 11)."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pyarrow as pa
import structlog

from domain.blocks import EVALUATOR
from schemas.ledger import LedgerBlock, TenantCount
from stores.clickhouse.block_outcomes import insert_duplicates, insert_refused
from stores.clickhouse.repairs import RangeRows, Staging, rows_of_ranges, stored_positions
from stores.clocks import postgres_now
from streams.ingest_block import PreparedBlock
from streams.ingest_deps import IngestDeps
from streams.repair_replay import Replay
from streams.repair_report import Finding, NotMendable, State

_BLOCKS_A_BATCH = 200

_log = structlog.get_logger(__name__)

Short = tuple[LedgerBlock, RangeRows]


class MissingRows:
    """The done blocks of one partition, against what the tables hold of them."""

    def __init__(self, deps: IngestDeps, partition: int) -> None:
        self._deps = deps
        self._number = partition

    async def find(self) -> tuple[list[Short], list[Finding]]:
        """What can be tried, in order, and what cannot: rows that are there twice are for a person to delete."""
        deps = self._deps
        done = await deps.ledger.done_blocks_above(deps.topic_id, self._number, -1)
        blocks = [block for block in done if block.state == "done"]
        if not blocks:
            return [], []
        ranges = [(block.intent.first_offset, block.intent.last_offset) for block in blocks]
        found = await rows_of_ranges(deps.clickhouse, deps.topic_id, self._number, ranges)
        wrong = [
            self._finding(
                block,
                "not_mendable",
                f"events has {rows.stored} rows at {rows.positions} positions, the ledger counts {block.intent.stored}:"
                " what is there twice must be deleted by hand (docs/runbook.md)",
            )
            for block, rows in zip(blocks, found, strict=True)
            if rows.stored != rows.positions or rows.positions > block.intent.stored
        ]
        short = [
            (block, rows)
            for block, rows in zip(blocks, found, strict=True)
            if rows.stored == rows.positions and _is_short(block, rows)
        ]
        return short, wrong

    def told(self, block: LedgerBlock, rows: RangeRows, state: State, reason: str = "") -> Finding:
        intent = block.intent
        lacks = (
            f"events has {rows.stored} of {intent.stored} rows, {rows.duplicate} of {intent.duplicate} duplicates,"
            f" {rows.rejected} of {intent.rejected} rejected"
        )
        return self._finding(block, state, f"{lacks}: {reason}" if reason else lacks)

    async def mend(self, replay: Replay, short: Sequence[Short]) -> tuple[list[LedgerBlock], list[Finding]]:
        """Put back what the log still gives. Returns the blocks whose rows were put back, and what became of each."""
        staging = Staging(self._deps.clickhouse)
        findings: list[Finding] = []
        mended: list[LedgerBlock] = []
        for start in range(0, len(short), _BLOCKS_A_BATCH):
            batch = short[start : start + _BLOCKS_A_BATCH]
            await staging.begin()
            staged: list[Short] = []
            for block, rows in batch:
                try:
                    await self._stage(staging, replay, block)
                except NotMendable as refused:
                    findings.append(self.told(block, rows, "not_mendable", str(refused)))
                    continue
                staged.append((block, rows))
            await staging.attach()
            mended += [block for block, _ in staged]
            findings += await self._checked(staged)
        return mended, findings

    async def _checked(self, staged: Sequence[Short]) -> list[Finding]:
        deps = self._deps
        if not staged:
            return []
        ranges = [(block.intent.first_offset, block.intent.last_offset) for block, _ in staged]
        after = await rows_of_ranges(deps.clickhouse, deps.topic_id, self._number, ranges)
        return [
            self.told(block, before, "not_mendable", "still so after the repair")
            if _is_short(block, rows)
            else self.told(block, before, "mended")
            for (block, before), rows in zip(staged, after, strict=True)
        ]

    async def _stage(self, staging: Staging, replay: Replay, block: LedgerBlock) -> None:
        deps, intent = self._deps, block.intent
        if intent.evaluator != EVALUATOR:
            raise NotMendable(
                f"written by evaluator {intent.evaluator}, this is {EVALUATOR}: run that release's repair"
            )
        prepared = await replay.evaluate(
            intent.first_offset, intent.last_offset, intent.version, whole=block.blocks == 1
        )
        if not _is_same(block, prepared):
            raise NotMendable("the log does not give the rows that the ledger names")
        present = await stored_positions(
            deps.clickhouse, deps.topic_id, self._number, intent.first_offset, intent.last_offset
        )
        deadline_s = deps.settings.ingest.insert_deadline_s
        for one in prepared:
            before = await _deadline(deps)
            await staging.add(
                _without(one, present), token=one.token, cut=block.cut, insert_before=before, within_s=deadline_s
            )
            await insert_duplicates(deps.clickhouse, deps.topic_id, self._number, one.outcomes.duplicates)
            await insert_refused(deps.clickhouse, deps.topic_id, self._number, one.outcomes.rejected)
        _log.info("made a block again", partition=self._number, first=intent.first_offset, last=intent.last_offset)

    def _finding(self, block: LedgerBlock, state: State, message: str) -> Finding:
        return Finding(
            kind="events",
            state=state,
            message=message,
            partition=self._number,
            first_offset=block.intent.first_offset,
            last_offset=block.intent.last_offset,
        )


async def _deadline(deps: IngestDeps) -> datetime:
    return await postgres_now(deps.engine) + timedelta(seconds=deps.settings.ingest.insert_deadline_s)


def _is_short(block: LedgerBlock, rows: RangeRows) -> bool:
    intent = block.intent
    return rows.stored < intent.stored or rows.duplicate < intent.duplicate or rows.rejected < intent.rejected


def _without(block: PreparedBlock, present: set[tuple[int, int]]) -> pa.RecordBatch:
    """The rows that are not in `events`."""
    stored = block.outcomes.stored
    missing = [place not in present for place in zip(stored.offset, stored.index, strict=True)]
    return block.batch if all(missing) else block.batch.filter(pa.array(missing))


def _is_same(block: LedgerBlock, prepared: Sequence[PreparedBlock]) -> bool:
    """One block: all that its intent promised. Many, rolled up: the sums of their counts."""
    if block.blocks == 1:
        return len(prepared) == 1 and prepared[0].intent == block.intent
    sums: dict[tuple[str, str, int], list[int]] = {}
    for one in (count for part in prepared for count in part.intent.counts):
        held = sums.setdefault((one.tenant, one.environment, one.hour), [0, 0, 0, 0])
        for place, more in enumerate((one.stored, one.duplicate, one.rejected, one.forwarded)):
            held[place] += more
    given = {_scope_of(one): [one.stored, one.duplicate, one.rejected, one.forwarded] for one in block.intent.counts}
    return sums == given


def _scope_of(count: TenantCount) -> tuple[str, str, int]:
    return (count.tenant, count.environment, count.hour)
