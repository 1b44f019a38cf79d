"""Windows that count less than `events` are added to; those that count more are told, and left to a person."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import structlog

from domain.errors import Conflict, Unavailable
from stores.clickhouse.blocks import DeadlinePassed
from stores.clickhouse.window_completion import (
    WindowDifference,
    WindowScope,
    add_missing,
    compare_windows,
    touched_by,
)
from stores.clocks import postgres_now
from stores.postgres.cuts import Cuts
from stores.postgres.ledger_leases import raise_above
from streams.ingest_deps import IngestDeps
from streams.repair_report import Finding, State

_ATTEMPTS = 4
_OPEN_WITHIN_S = 60.0
_DAY = timedelta(days=1)

_log = structlog.get_logger(__name__)


class WindowRepair:
    """Of blocks, or of ranges of minutes. Only where no block is open any more, so that windows stand still."""

    def __init__(self, deps: IngestDeps, *, changes: bool) -> None:
        self._deps = deps
        self._changes = changes
        self._still_below = 0

    async def of_block(self, partition: int, first: int, last: int, cut: int) -> list[Finding]:
        """The windows that a done block touched."""
        scope = await touched_by(self._deps.clickhouse, self._deps.topic_id, partition, first, last, cut)
        if scope is None:
            return []
        await self._stand_still(cut)
        name = f"{self._deps.topic_id}/{partition}/{first}-{last}/{cut}"
        finding = await self._mend(scope, name, partition, f"of the block at {first}-{last}")
        return [] if finding is None else [finding]

    async def of_range(self, start: datetime, end: datetime) -> list[Finding]:
        """All windows with minutes in `[start, end)`, day by day, of every cut that was raised before."""
        cut = await Cuts(self._deps.engine).current()
        await self._stand_still(cut)
        found = []
        for first, last in _days(start, end):
            scope = WindowScope(start=first, end=last, cut=self._still_below, below=True)
            finding = await self._mend(scope, f"{first.isoformat()}/{last.isoformat()}", None, f"of {first:%Y-%m-%d}")
            found += [] if finding is None else [finding]
        return found

    async def _stand_still(self, cut: int) -> None:
        """No block of this cut, or of one before, is open, and none will be. Raises Unavailable where one stays open."""
        if cut < self._still_below:
            return
        if not self._changes:
            self._still_below = cut  # a dry run compares what was cut before, and may see a block on its way
            return
        await raise_above(self._deps.engine, cut)
        try:
            await Cuts(self._deps.engine).wait_complete(cut + 1, _OPEN_WITHIN_S)
        except Conflict as still_open:
            raise Unavailable(
                "worker", f"{still_open.message}: let the workers finish them, then repair again"
            ) from None
        self._still_below = cut + 1

    async def _mend(self, scope: WindowScope, name: str, partition: int | None, of: str) -> Finding | None:
        before = await self._compare(scope)
        if before.is_none:
            return None
        after = before
        for attempt in range(1, _ATTEMPTS + 1):
            if after.over or not after.short or not self._changes:
                break
            await self._add(scope, f"repair/{name}/{attempt}")
            after = await self._compare(scope)
        state: State = (
            "found" if not self._changes and not before.over else "mended" if after.is_none else "not_mendable"
        )
        wrong = []
        if before.short:
            wrong.append(f"{before.short} windows {of} count less than events")
        if after.over:
            wrong.append(
                f"{after.over} windows {of} count more than events: delete and rebuild them by hand (docs/runbook.md)"
            )
        return Finding(
            kind="windows",
            state=state,
            message="; ".join([*wrong, *(after.samples if after.over else before.samples)]),
            partition=partition,
        )

    async def _compare(self, scope: WindowScope) -> WindowDifference:
        return await compare_windows(
            self._deps.clickhouse, scope, within_s=self._deps.settings.clickhouse.query_timeout_s
        )

    async def _add(self, scope: WindowScope, token: str) -> None:
        """One attempt. The token is the same for every run of this repair: what an earlier one sent cannot count again."""
        deps, ingest = self._deps, self._deps.settings.ingest
        deadline = timedelta(seconds=ingest.insert_deadline_s)
        before = await postgres_now(deps.engine) + deadline
        try:
            await add_missing(
                deps.clickhouse, scope, token=token, insert_before=before, within_s=ingest.insert_deadline_s
            )
        except DeadlinePassed:
            _log.warning("windows were not added before the deadline", token=token)
        except Unavailable as unknown:
            _log.warning("windows may have been added", token=token, reason=unknown.message)
            await asyncio.sleep(ingest.insert_deadline_s + ingest.clock_skew_s)


def _days(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    at = start
    while at < end:
        midnight = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
        yield at, min(midnight, end)
        at = midnight
