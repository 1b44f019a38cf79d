"""A range of the log evaluated again, at the version it was evaluated at, against the filter below it (protocol 7)."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

from domain.catalog import Catalog
from domain.offset_ranges import OffsetRange
from domain.records import LogRecord
from stores.clickhouse.identities import KnownPosition, known_positions
from stores.rocks.filter import DuplicateFilter
from stores.rocks.memory import FilterMemory
from streams.ingest_block import BlockEvaluator, PreparedBlock
from streams.ingest_deps import IngestDeps
from streams.log_reader import RetentionPassedError
from streams.repair_report import NotMendable
from streams.retry import until_available

# A row of the ledger that stands for many blocks is read in steps of so many records.
RECORDS_A_STEP = 500
_NO_DAY = 0

_EPOCH = date(1970, 1, 1)
_LAST_DAY = date(2149, 1, 1)
_LONGEST_BLOCK_DAYS = 40


class Replay:
    """One partition, in ascending ranges. What was stored before is looked up in `events`; nothing is written anywhere
    but in a temporary filter, which holds what was evaluated here and is not in `events` yet.
    """

    def __init__(self, deps: IngestDeps, partition: int, duplicates: DuplicateFilter) -> None:
        self._deps = deps
        self._number = partition
        self.evaluator = BlockEvaluator(
            topic_id=deps.topic_id,
            partition=partition,
            partitions=deps.partitions,
            shards=deps.settings.clickhouse.shards,
            duplicates=duplicates,
            evaluation=deps.evaluation,
            look_up=self._look_up,
            budget_s=deps.budget_s,
        )

    async def is_gap(self, first: int, last: int) -> bool:
        """Whether the log never had records there (protocol 17). Raises NotMendable where they are gone."""
        there = await self._next(first)
        return there is None or there > last

    async def evaluate(self, first: int, last: int, version: int, *, whole: bool) -> list[PreparedBlock]:
        """The range as one block (`whole`) or as many. Raises NotMendable where the log or the catalog lacks something."""
        if version > self._deps.catalog.head:
            raise NotMendable(
                f"catalog version {version} is not in catalog.changed, which ends at {self._deps.catalog.head}"
            )
        await self._next(first)
        catalog = self._deps.catalog.at(version)
        prepared: list[PreparedBlock] = []
        step = last - first + 1 if whole else RECORDS_A_STEP
        for start in range(first, last + 1, step):
            end = min(start + step - 1, last)
            records = await self._read(start, end)
            if len(records) != end - start + 1:
                raise NotMendable(f"the log has {len(records)} of the {end - start + 1} records at {start}-{end}")
            prepared += await self._blocks(records, catalog)
        return prepared

    async def _blocks(self, records: Sequence[LogRecord], catalog: Catalog) -> list[PreparedBlock]:
        block = await self.evaluator.prepare(records, catalog)
        if block is None:
            half = len(records) // 2
            return [*await self._blocks(records[:half], catalog), *await self._blocks(records[half:], catalog)]
        await self.evaluator.enter(block.outcomes, _NO_DAY)
        return [block]

    async def _read(self, first: int, last: int) -> list[LogRecord]:
        deps = self._deps
        return await until_available(lambda: deps.log.read(self._number, first, last), deps.budget_s, step="range")

    async def _next(self, offset: int) -> int | None:
        deps = self._deps
        try:
            return await until_available(
                lambda: deps.log.next_at_or_after(self._number, offset), deps.budget_s, step="range"
            )
        except RetentionPassedError as passed:
            raise NotMendable(str(passed)) from passed

    async def _look_up(
        self, identities: Sequence[bytes], gaps: Sequence[OffsetRange], oldest_day: int
    ) -> list[KnownPosition]:
        deps = self._deps
        # `events` is divided by the day of a block's first record: a block of the window may have begun before it.
        days = (_EPOCH + timedelta(days=max(oldest_day - _LONGEST_BLOCK_DAYS, 0)), _LAST_DAY)
        return await until_available(
            lambda: known_positions(deps.clickhouse, deps.topic_id, self._number, identities, gaps, days),
            deps.budget_s,
            step="look up",
        )


@contextmanager
def replay(deps: IngestDeps, partition: int, end: int) -> Iterator[Replay]:
    """For ranges up to the offset `end`."""
    with tempfile.TemporaryDirectory(prefix="meterstream-repair-") as directory:
        duplicates = DuplicateFilter(Path(directory), FilterMemory(), deps.topic_id)
        try:
            duplicates.begin(end, [(0, end)])  # all of it is a gap: `events` is asked
            yield Replay(deps, partition, duplicates)
        finally:
            duplicates.close()
