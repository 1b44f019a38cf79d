"""Loading what a partition's duplicate filter lacks from `events`, newest first, beside the partition's blocks."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, timedelta
from itertools import pairwise
from typing import Any, TypeVar

import structlog

from domain.offset_ranges import OffsetRange
from runtime import metrics
from stores.clickhouse.identities import identity_counts, identity_rows
from stores.postgres.ledger_ranges import StoredRange
from stores.rocks.filter import DuplicateFilter
from streams.ingest_deps import IngestDeps
from streams.ingest_errors import LedgerMismatchError
from streams.retry import until_available

T = TypeVar("T")

_ROWS_A_WRITE = 8_192
_VERIFY_WAIT_S = 0.5
_DAY = timedelta(days=1)

_log = structlog.get_logger(__name__)


class FilterLoad:
    """The ranges of the ledger that one filter lacks. A crash between two of them loses at most one's work."""

    def __init__(
        self, deps: IngestDeps, partition: int, duplicates: DuplicateFilter, ranges: Sequence[StoredRange]
    ) -> None:
        self._deps = deps
        self._number = partition
        self._filter = duplicates
        self._ranges = list(ranges)
        self._waiting = list(ranges)
        self._took_s = 0.0
        self.loaded = 0
        self._tell()

    @property
    def left(self) -> int:
        """Identities that are not in the filter yet."""
        return sum(one.stored for one in self._waiting)

    @property
    def left_s(self) -> float:
        """About how long the rest will take, judged by what was loaded so far."""
        return self.left * self._took_s / max(self.loaded, 1)

    def days(self, gaps: Sequence[OffsetRange], oldest_day: date) -> tuple[date, date] | None:
        """Between which days blocks began that may hold what is absent and still within the window; None: there is none."""
        spans = [
            span
            for one in self._ranges
            if any(one.first_offset <= last and first <= one.last_offset for first, last in gaps)
            # A block may have begun long before its last record was logged: only what ended before the window is out.
            and (span := _days(one))[1] >= oldest_day
        ]
        return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else None

    async def check(self) -> None:
        """Protocol 11: before answers are taken from `events`, it has what the ledger says of every range.

        Raises LedgerMismatchError after the retry budget: a lagging replica gets as long.
        """
        waiting = self._waiting
        if not waiting:
            return
        expected = [one.stored for one in waiting]
        bounds = [(one.first_offset, one.last_offset) for one in waiting]
        days = (min(_days(one)[0] for one in waiting), max(_days(one)[1] for one in waiting))
        asked_at = time.monotonic()
        while True:
            found = await self._patiently(
                lambda: identity_counts(self._deps.clickhouse, self._deps.topic_id, self._number, bounds, days),
                "counts",
            )
            if found == expected:
                return
            if time.monotonic() - asked_at >= self._deps.budget_s:
                wrong, count = next(pair for pair in zip(waiting, found, strict=True) if pair[0].stored != pair[1])
                raise self._mismatch(wrong, count)
            await asyncio.sleep(_VERIFY_WAIT_S)

    async def newest(self) -> None:
        """Load the newest range that is absent."""
        if not self._waiting:
            return
        began_at = time.monotonic()
        newest = self._waiting[-1]
        await self._load(newest)
        self._waiting.pop()
        self.loaded += newest.stored
        self._took_s += time.monotonic() - began_at
        self._tell()

    async def rest(self) -> None:
        """Everything else, one range after another."""
        while self._waiting:
            await self.newest()
        _log.info(
            "the filter is complete", partition=self._number, identities=self.loaded, took_s=round(self._took_s, 1)
        )

    async def _load(self, wanted: StoredRange) -> None:
        asked_at = time.monotonic()
        while True:
            found = 0
            for piece in _pieces(wanted, self._deps.settings.ingest.filter_range_events):
                async with self._deps.loads:
                    found += await self._read(piece, _days(wanted))
            if found == wanted.stored:
                await self._in_thread(self._filter.loaded, wanted.first_offset, wanted.last_offset)
                return
            if time.monotonic() - asked_at >= self._deps.budget_s:
                raise self._mismatch(wanted, found)
            await asyncio.sleep(_VERIFY_WAIT_S)

    async def _read(self, offsets: OffsetRange, days: tuple[date, date]) -> int:
        deps = self._deps
        rows = await self._patiently(
            lambda: identity_rows(deps.clickhouse, deps.topic_id, self._number, offsets, days), "identities"
        )
        # Facts, whether or not the rest of the range is there: what counts is that `loaded` comes after all of it.
        for day, packed in rows.by_day(_ROWS_A_WRITE):
            await self._in_thread(self._filter.load, day, packed)
        return len(rows)

    def _mismatch(self, wrong: StoredRange, found: int) -> LedgerMismatchError:
        return LedgerMismatchError(
            f"partition {self._number}: the blocks from {wrong.first_offset} to {wrong.last_offset} have {found} rows in"
            f" events, the ledger names {wrong.stored}"
        )

    def _tell(self) -> None:
        metrics.worker_filter_absent.labels(str(self._number)).set(self.left)

    async def _in_thread(self, step: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()

        async def attempt() -> T:
            return await loop.run_in_executor(self._deps.evaluation, step, *arguments)

        return await self._patiently(attempt, "filter")

    async def _patiently(self, attempt: Callable[[], Awaitable[T]], step: str) -> T:
        return await until_available(attempt, self._deps.budget_s, step=step)


def _pieces(wanted: StoredRange, size: int) -> list[OffsetRange]:
    """One ledger row may stand for an hour of blocks: then it is read in parts of about `size` events."""
    offsets = wanted.last_offset - wanted.first_offset + 1
    count = min(max(wanted.stored // size, 1), offsets)
    edges = [wanted.first_offset + offsets * number // count for number in range(count + 1)]
    return [(first, end - 1) for first, end in pairwise(edges)]


def _days(one: StoredRange) -> tuple[date, date]:
    """On which days its blocks may have begun. A day more on either side, since brokers' clocks may step back."""
    ends = sorted((one.first_logged_at, one.last_logged_at))
    return ends[0].astimezone(UTC).date() - _DAY, ends[1].astimezone(UTC).date() + _DAY
