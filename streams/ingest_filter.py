"""The duplicate filter of a partition in this worker: opened, brought up to the ledger, and asked where it has gaps.

A worker without local state serves at once: what is not loaded yet is asked for in `events` (protocol 11, 13, 21).
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import date, timedelta

import structlog

from domain.blocks import window_days
from domain.offset_ranges import OffsetRange
from runtime import metrics
from schemas.ledger import LedgerPartition
from stores.clickhouse.identities import KnownPosition, known_positions
from stores.postgres.ledger_ranges import stored_ranges
from stores.rocks.filter import DuplicateFilter
from streams.ingest_deps import IngestDeps
from streams.ingest_filter_load import FilterLoad
from streams.retry import until_available

Ended = Callable[["asyncio.Task[None]"], None]

_EPOCH = date(1970, 1, 1)

_log = structlog.get_logger(__name__)


class PartitionFilter:
    """One partition's filter through all tenures of this process. `ended` hears of a load that failed."""

    def __init__(self, deps: IngestDeps, partition: int, duplicates: DuplicateFilter, ended: Ended) -> None:
        self._deps = deps
        self._number = partition
        self._ended = ended
        self._load = FilterLoad(deps, partition, duplicates, ())
        self._rest: asyncio.Task[None] | None = None
        self._bringing_up = asyncio.Lock()
        self._look_up_s = 0.0
        self.duplicates = duplicates

    @classmethod
    async def opened(cls, deps: IngestDeps, partition: int, ended: Ended) -> "PartitionFilter":
        """What is damaged, of another release or of another topic is thrown away. Waits for a full disk."""
        loop = asyncio.get_running_loop()

        async def attempt() -> DuplicateFilter:
            return await loop.run_in_executor(deps.evaluation, deps.open_filter, partition)

        duplicates = await until_available(attempt, deps.budget_s, step="filter")
        if duplicates.discarded is not None:
            metrics.worker_filters_discarded.inc()
            _log.error("threw a duplicate filter away", partition=partition, reason=duplicates.discarded)
        return cls(deps, partition, duplicates, ended)

    async def bring_up(self, state: LedgerPartition) -> None:
        """Protocol 11: called under the new epoch only, so that what the predecessor finished is in it or a gap.

        Returns when answers are exact: the newest events are loaded, older ones are counted and then loaded behind.
        """
        deps, began_at = self._deps, time.monotonic()
        async with self._bringing_up:
            await self.stop()
            applied, gaps = self.duplicates.applied, self.duplicates.gaps
            above = min([applied, *(first - 1 for first, _ in gaps)])
            if above >= state.last_offset:
                return
            ranges = await until_available(
                lambda: stored_ranges(
                    deps.engine,
                    deps.topic_id,
                    self._number,
                    above,
                    window_days=window_days(deps.catalog.current()),
                    size=deps.settings.ingest.filter_range_events,
                ),
                deps.budget_s,
                step="ranges",
            )
            stored = [(one.first_offset, one.last_offset) for one in ranges]
            gaps = await self._begin(state.last_offset, stored)
            absent = [
                one
                for one in ranges
                if any(one.first_offset <= last and first <= one.last_offset for first, last in gaps)
            ]
            self._load = FilterLoad(deps, self._number, self.duplicates, absent)
            while self._load.left and self._load.loaded < deps.settings.ingest.filter_range_events:
                await self._load.newest()
            if self._load.left:
                await self._load.check()
                self._rest = asyncio.create_task(self._load.rest(), name=f"filter {self._number}")
                self._rest.add_done_callback(self._ended)
            _log.info(
                "brought the filter up",
                partition=self._number,
                applied=self.duplicates.applied,
                behind=self._load.left,
                took_s=round(time.monotonic() - began_at, 2),
            )

    async def look_up(
        self, identities: Sequence[bytes], gaps: Sequence[OffsetRange], oldest_day: int
    ) -> list[KnownPosition] | None:
        """The stored events with these identities in the gaps; None when the filter has them meanwhile: ask it again.

        `oldest_day` is the first log day of the window. When the rest of the load takes no longer than an answer did, it
        is waited for; and where it ends first, it is the answer.
        """
        load, rest = self._load, self._rest
        days = load.days(gaps, _EPOCH + timedelta(days=oldest_day))
        if days is None:
            return []
        if rest is None or rest.done():
            self._raise_failure()
            return await self._ask(identities, gaps, days)
        if load.left_s <= self._look_up_s:
            await asyncio.wait({rest}, timeout=self._look_up_s)  # not for ever: other partitions load first, perhaps
        if rest.done():
            self._raise_failure()
            return None
        asked = asyncio.ensure_future(self._ask(identities, gaps, days))
        try:
            await asyncio.wait({asked, rest}, return_when=asyncio.FIRST_COMPLETED)
            if asked.done():
                return asked.result()
            self._raise_failure()
            return None
        finally:
            asked.cancel()

    async def stop(self) -> None:
        """Load no more: the partition is another's. What was loaded stays, and the gaps are known."""
        rest, self._rest = self._rest, None
        if rest is not None:
            rest.remove_done_callback(self._ended)
            rest.cancel()
            await asyncio.wait({rest})
            metrics.worker_filter_absent.labels(str(self._number)).set(0)

    async def _ask(
        self, identities: Sequence[bytes], gaps: Sequence[OffsetRange], days: tuple[date, date]
    ) -> list[KnownPosition]:
        deps, began_at = self._deps, time.monotonic()
        found = await until_available(
            lambda: known_positions(deps.clickhouse, deps.topic_id, self._number, identities, gaps, days),
            deps.budget_s,
            step="look up",
        )
        self._look_up_s = time.monotonic() - began_at
        metrics.worker_filter_lookups.inc(len(identities))
        return found

    def _raise_failure(self) -> None:
        if self._rest is not None and self._rest.done() and not self._rest.cancelled():
            failure = self._rest.exception()
            if failure is not None:
                raise failure

    async def _begin(self, last_offset: int, stored: Sequence[OffsetRange]) -> list[OffsetRange]:
        loop = asyncio.get_running_loop()

        async def attempt() -> list[OffsetRange]:
            return await loop.run_in_executor(self._deps.evaluation, self.duplicates.begin, last_offset, stored)

        return await until_available(attempt, self._deps.budget_s, step="filter")
