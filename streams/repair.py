"""`meterstream repair`: partitions are taken over, what the stores lack of the ledger and the ledger of the stores is
found, and mended from the log (protocol 11, 18).

Nothing here is guessed: what is made again must be what the ledger or `events` names, or it is told and left alone. Every
step may be repeated, so a repair that was interrupted is simply run again.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from domain.errors import Conflict, Unavailable
from schemas.ledger import LedgerBlock, LedgerPartition
from schemas.topics import APP_INGEST, USAGE_DELTAS, USAGE_RAW
from stores.clickhouse.repairs import RowGroup, event_days, groups_above, newest_cut
from stores.clickhouse.window_completion import lacks_windows, touched_by
from stores.postgres import ledger_repair
from stores.postgres.cuts import Cuts
from stores.postgres.ledger_leases import raise_above
from stores.rocks.filter import DuplicateFilter
from streams.deps import WorkerDeps
from streams.ingest_completion import Completion
from streams.ingest_deps import IngestDeps
from streams.ingest_errors import BlockMismatchError
from streams.ingest_writer import BlockWriter
from streams.log_reader import LogReader
from streams.repair_events import MissingRows
from streams.repair_ledger import Adoption, Span, plan, told_spans
from streams.repair_replay import Replay, replay
from streams.repair_report import Finding, NotMendable, RepairReport
from streams.repair_windows import WindowRepair

# Clocks, and deltas that were sent a while after their block was done.
_TOLD_BEFORE = timedelta(hours=1)
_MS = timedelta(milliseconds=1)


class Repair:
    """One run over some partitions. `changes` off: everything is looked at, nothing is taken over or written."""

    def __init__(self, deps: IngestDeps, *, changes: bool) -> None:
        self._deps = deps
        self._changes = changes
        self._windows = WindowRepair(deps, changes=changes)
        self._findings: list[Finding] = []

    async def run(self, partitions: Sequence[int]) -> RepairReport:
        """Look at these partitions, and mend what can be. Raises Conflict `repair_running`, Unavailable."""
        deps = self._deps
        if not self._changes:
            await self._run(partitions)
            return self._report(partitions)
        async with ledger_repair.locked(deps.engine, deps.topic_id, list(partitions)):
            await self._run(partitions)
        return self._report(partitions)

    def _report(self, partitions: Sequence[int]) -> RepairReport:
        return RepairReport(partitions=list(partitions), findings=self._findings)

    async def _run(self, partitions: Sequence[int]) -> None:
        deps = self._deps
        if await self._catalog_is_behind():
            return
        states = [await self._taken_over(number) for number in partitions]
        # protocol 10, 18: cuts grow along positions, also where PostgreSQL has forgotten how far they had come.
        newest = await newest_cut(deps.clickhouse)
        if self._changes and newest > await Cuts(deps.engine).current():
            await raise_above(deps.engine, newest)
        committed = await _committed(deps)
        told = await self._told(states)
        touched: list[tuple[int, int, int, int]] = []
        for state in states:
            touched += await self._mend(state, committed.get(state.partition, 0), told.get(state.partition, []))
        for partition, first, last, cut in touched:
            self._findings += await self._windows.of_block(partition, first, last, cut)
        await self._all_windows_if_needed(partitions)

    async def _catalog_is_behind(self) -> bool:
        known, head = await ledger_repair.catalog_head(self._deps.engine), self._deps.catalog.head
        if known >= head:
            return False
        message = (
            f"PostgreSQL's catalog ends at version {known}, catalog.changed at {head}: restore a newer backup of"
            " PostgreSQL: meters, customers and contracts of the versions between are not in this one"
        )
        self._findings.append(Finding(kind="catalog", state="not_mendable", message=message))
        return True

    async def _taken_over(self, number: int) -> LedgerPartition:
        deps = self._deps
        state = await deps.ledger.partition(deps.topic_id, number)
        if state is None:
            raise Conflict("partition_unknown", f"{USAGE_RAW} has no partition {number}")
        if self._changes:
            state = await deps.ledger.take_over(deps.topic_id, number, state.generation, repairing=True)
        return state

    async def _told(self, states: Sequence[LedgerPartition]) -> dict[int, list[Span]]:
        """Blocks by their deltas, where the ledger may have forgotten some: it ends before `events` does."""
        deps = self._deps
        newest = [await deps.ledger.newest_stored(deps.topic_id, state.partition) for state in states]
        since_ms = 0
        if all(block is not None for block in newest):
            oldest = min(block.intent.last_logged_at for block in newest if block is not None)
            since_ms = int(oldest.timestamp() * 1000) - _TOLD_BEFORE // _MS
        return await told_spans(LogReader(deps.settings.kafka, USAGE_DELTAS), deps.topic_id, max(since_ms, 0))

    async def _mend(
        self, state: LedgerPartition, committed: int, told: Sequence[Span]
    ) -> list[tuple[int, int, int, int]]:
        """Rows, then the open block, then the ledger: each needs the one before. Returns (partition, first, last, cut) of
        the blocks whose windows are to be compared.
        """
        deps, number = self._deps, state.partition
        missing = MissingRows(deps, number)
        short, wrong = await missing.find()
        self._findings += wrong
        opened = await deps.ledger.open_block(deps.topic_id, number)
        end = state.last_offset if opened is None else opened.intent.last_offset
        groups = await groups_above(deps.clickhouse, deps.topic_id, number, end)
        ends = [end, committed - 1, *(span.last_offset for span in told), *(group.last_offset for group in groups)]
        if not self._changes:
            self._findings += [missing.told(block, rows, "found") for block, rows in short]
            self._findings += self._forgotten(number, end, committed, told, groups)
            return []
        with replay(deps, number, max(ends)) as again:
            mended, findings = await missing.mend(again, short)
            self._findings += findings
            touched = [(number, block.intent.first_offset, block.intent.last_offset, block.cut) for block in mended]
            writer = BlockWriter(deps, number, state.epoch, again.evaluator)
            # Also where nothing is wrong: windows are compared once no block of their cut is open.
            if opened is not None and not await self._completed(
                Completion(deps, number, again.evaluator), writer, state, opened
            ):
                return touched
            spans = await self._adopted(again, writer, opened, committed, told, groups, state)
        return touched + [
            (number, span.first_offset, span.last_offset, span.cut) for span in spans if span.cut is not None
        ]

    async def _completed(
        self, completion: Completion, writer: BlockWriter, state: LedgerPartition, opened: LedgerBlock
    ) -> bool:
        try:
            await completion.complete(writer, state, opened)
        except BlockMismatchError as mismatch:
            intent = opened.intent
            self._findings.append(
                Finding(
                    kind="block",
                    state="not_mendable",
                    message=str(mismatch),
                    partition=state.partition,
                    first_offset=intent.first_offset,
                    last_offset=intent.last_offset,
                )
            )
            return False
        return True

    async def _adopted(
        self,
        again: Replay,
        writer: BlockWriter,
        opened: LedgerBlock | None,
        committed: int,
        told: Sequence[Span],
        groups: Sequence[RowGroup],
        before: LedgerPartition,
    ) -> list[Span]:
        deps, number = self._deps, before.partition
        state = await deps.ledger.partition(deps.topic_id, number) or before
        newest = await deps.ledger.newest_stored(deps.topic_id, number)
        cut = max(1 if newest is None else newest.cut, 0 if opened is None else opened.cut)
        try:
            spans = plan(state.last_offset, told, groups, committed)
        except NotMendable as refused:
            self._findings.append(Finding(kind="ledger", state="not_mendable", message=str(refused), partition=number))
            return []
        adopted, findings = await Adoption(deps, state, again, writer, cut).adopt(spans)
        self._findings += findings
        return adopted

    def _forgotten(
        self, number: int, end: int, committed: int, told: Sequence[Span], groups: Sequence[RowGroup]
    ) -> list[Finding]:
        """What a run with changes would enter again."""
        try:
            spans = plan(end, told, groups, committed)
        except NotMendable as refused:
            return [Finding(kind="ledger", state="not_mendable", message=str(refused), partition=number)]
        return [
            Finding(
                kind="ledger",
                state="found",
                message="the ledger has forgotten this range",
                partition=number,
                first_offset=span.first_offset,
                last_offset=span.last_offset,
            )
            for span in spans
        ]

    async def _all_windows_if_needed(self, partitions: Sequence[int]) -> None:
        """Windows that a newest block lacks, with all its rows there, were lost by themselves: nobody knows since when."""
        deps = self._deps
        for number in partitions:
            newest = await deps.ledger.newest_stored(deps.topic_id, number)
            if newest is None or newest.blocks > 1:
                continue
            intent = newest.intent
            scope = await touched_by(
                deps.clickhouse, deps.topic_id, number, intent.first_offset, intent.last_offset, newest.cut
            )
            if scope is not None and await lacks_windows(deps.clickhouse, scope):
                if (days := await event_days(deps.clickhouse)) is not None:
                    self._findings += await self._windows.of_range(
                        days[0].replace(second=0, microsecond=0), days[1] + timedelta(minutes=1)
                    )
                return

    async def windows(self, start: datetime, end: datetime) -> RepairReport:
        """Only the windows of a range of event time, whatever the partitions. Workers go on meanwhile."""
        deps = self._deps
        if not self._changes:
            return RepairReport(partitions=[], findings=await self._windows.of_range(start, end))
        async with ledger_repair.locked(deps.engine, f"{deps.topic_id}/windows", [0]):
            return RepairReport(partitions=[], findings=await self._windows.of_range(start, end))


async def _committed(deps: IngestDeps) -> dict[int, int]:
    """Next offsets that the group has committed: what is below was done once, whatever the ledger says."""
    admin = AIOKafkaAdminClient(bootstrap_servers=deps.settings.kafka.bootstrap)
    try:
        await admin.start()
        found = await admin.list_consumer_group_offsets(APP_INGEST)
    except (KafkaError, OSError) as error:
        raise Unavailable("kafka", f"the group's offsets cannot be read: {error!r}") from error
    finally:
        await admin.close()
    return {place.partition: max(at.offset, 0) for place, at in found.items() if place.topic == USAGE_RAW}


async def repair(
    deps: WorkerDeps,
    topic_id: str,
    *,
    partitions: Sequence[int],
    changes: bool,
    windows: tuple[datetime, datetime] | None = None,
) -> RepairReport:
    """One run with the objects of a worker. `windows`: only those with minutes in `[start, end)`."""
    settings = deps.settings
    await deps.producer.start()
    await deps.catalog.start()
    await deps.catalog.caught_up(settings.worker.retry_budget_s)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="evaluation") as evaluation:
        run = Repair(
            IngestDeps(
                settings=settings,
                clock=deps.clock,
                topic_id=topic_id,
                engine=deps.engine,
                ledger=deps.ledger,
                clickhouse=deps.clickhouse,
                producer=deps.producer,
                catalog=deps.catalog,
                log=LogReader(settings.kafka, USAGE_RAW),
                end_offset=_unused,
                commit=_unused,
                open_filter=_no_filter,
                evaluation=evaluation,
                inserts=asyncio.Semaphore(1),
                loads=asyncio.Semaphore(1),
            ),
            changes=changes,
        )
        return await (run.run(partitions) if windows is None else run.windows(*windows))


async def _unused(*_: int) -> int:
    raise RuntimeError("a repair reads no stream")


def _no_filter(_: int) -> DuplicateFilter:
    raise RuntimeError("a repair has a filter of its own")
