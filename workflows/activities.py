"""What closings do to the world. Each activity may be killed at any point and run again."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import structlog
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio import activity

from domain.billing import bill, ranges_of
from domain.closing import closable_before, due_page, still_due
from domain.errors import Conflict, Unavailable
from domain.late_usage import adjusted, adjustment_invoice, both, too_slow
from runtime import metrics
from runtime.clock import Clock
from runtime.ids import Ids
from runtime.settings import ClosingSettings
from schemas.billing import Billing
from schemas.closing import (
    BatchClosed,
    ClosingBatch,
    Cutoff,
    CutoffTaken,
    DuePage,
    DuePeriod,
    DueQuestion,
    FailedPeriod,
)
from schemas.late_usage import LateLook, LatePage
from schemas.topics import USAGE_RAW
from stores.billing import read_contracts
from stores.clickhouse.client import ClickhouseClient, TookTooLong
from stores.late_usage import find_late, read_late, read_with_late
from stores.postgres import closing_batch, late_looks
from stores.postgres.closings import billed_among, due_subscriptions, is_any_due, keep_failures
from stores.postgres.cutoffs import reach_of
from stores.postgres.cuts import Cuts
from stores.postgres.engine import transaction
from stores.postgres.late_usage import due_looks, is_any_look_due
from stores.postgres.ledger import Ledger
from stores.postgres.progress import ProgressReader

_log = structlog.get_logger(__name__)


class ClosingActivities:
    """Holds the stores. Errors are those of domain/errors.py: Temporal repeats `Unavailable` and no other kind."""

    def __init__(
        self, *, engine: AsyncEngine, clickhouse: ClickhouseClient, clock: Clock, ids: Ids, settings: ClosingSettings
    ) -> None:
        self._engine = engine
        self._clickhouse = clickhouse
        self._ledger = Ledger(engine)
        self._cuts = Cuts(engine)
        self._progress = ProgressReader(engine, USAGE_RAW)
        self._clock = clock
        self._ids = ids
        self._settings = settings

    @property
    def all(self) -> Sequence[Callable[..., Any]]:
        return (self.take_cutoff, self.find_due, self.close_batch, self.record_failure, self.bill_late)

    @activity.defn
    async def take_cutoff(self) -> CutoffTaken:
        """A complete cutoff that holds all that was counted when this began; none when nothing is due.

        Safe to repeat: another cutoff, the same meaning.
        """
        topic_id = await self._progress.topic_id()
        watermark = await self._ledger.watermark(topic_id)
        now = self._clock.now()
        async with transaction(self._engine) as conn:
            due = await is_any_due(conn, closable_before(now, self._settings.grace_s, watermark.as_of))
            if not due and not await is_any_look_due(conn, self._looked_before(now)):
                return CutoffTaken()
        former = await self._cuts.current()
        cut = await self._cuts.raise_cut(self._settings.cut_min_interval_s, now)
        await self._until_complete(cut)
        reach = await reach_of(self._engine, topic_id, cut)
        if cut == former and reach.is_passed:
            # The cut is too young to be raised, and what was counted since would be left out.
            age_s = (now - reach.raised_at).total_seconds()
            return CutoffTaken(wait_s=max(self._settings.cut_min_interval_s - age_s, 1.0))
        return CutoffTaken(cutoff=Cutoff(cut=cut, as_of=reach.as_of))

    @activity.defn
    async def find_due(self, question: DueQuestion) -> DuePage:
        """Up to `batch_size` due periods. Safe to repeat: it changes nothing but `closing_failures`."""
        before = closable_before(self._clock.now(), self._settings.grace_s, question.cutoff.as_of)
        size = self._settings.batch_size
        async with transaction(self._engine) as conn:
            found = await due_subscriptions(conn, before, after=question.after, limit=size)
        page, untold = due_page(found, before, size, question.after)
        await self._keep_failures(untold)
        return page

    @activity.defn
    async def close_batch(self, batch: ClosingBatch) -> BatchClosed:
        """Bills each period once: one transaction for all of the batch.

        Safe to repeat by the uniqueness of `billed_periods`: what is billed already is found and counts as done. What a
        subscription lacks stops that subscription alone, and is kept in `closing_failures`.
        """
        async with transaction(self._engine) as conn:
            billed = await billed_among(conn, batch.periods)
        listed = [period for period in batch.periods if (period.subscription_id, period.start) not in billed]
        contracts = await read_contracts(self._engine, _subscriptions(listed))
        left, changed = still_due(contracts.held, listed)
        cut = batch.cutoff.cut
        usage, late, late_usage = await read_with_late(
            self._engine, self._clickhouse, contracts, ranges_of(contracts, left), cut
        )
        made = [
            adjusted(bill(contracts, list(periods), usage, cut, self._ids.new), late, late_usage, self._ids.new)
            for _, periods in groupby(left, key=_subscription)
        ]
        moved = await self._keep(made, batch.cutoff)
        return BatchClosed(
            billed=sum(len(one.invoices) for one in made if one.held.id in moved),
            already=len(batch.periods) - len(listed),
            stopped=(*changed, *(one.held.id for one in made if one.failed is not None or one.held.id not in moved)),
        )

    @activity.defn
    async def record_failure(self, failed: FailedPeriod) -> None:
        """Keeps why a period stands still. Safe to repeat by its period: the number of attempts grows."""
        await self._keep_failures([failed])

    @activity.defn
    async def bill_late(self, question: DueQuestion) -> LatePage:
        """Looks at up to `batch_size` ended subscriptions that were not looked at for a while, and bills what came late.

        Safe to repeat: a look that was moved on is not due, and the uniqueness of
        `billed_periods` makes a second invoice of the same adjustment impossible.
        """
        now, cutoff = self._clock.now(), question.cutoff
        size = self._settings.batch_size
        async with transaction(self._engine) as conn:
            looks = await due_looks(conn, self._looked_before(now), cutoff, after=question.after, limit=size)
        done = await self._look_at(looks, cutoff, now)
        return replace(done, after=looks[-1].subscription_id if looks else question.after, is_last=len(looks) < size)

    async def _look_at(self, looks: Sequence[LateLook], cutoff: Cutoff, now: datetime) -> LatePage:
        """In two halves where their usage takes too long to read together, and so on: one holds up no other."""
        ids = [look.subscription_id for look in looks]
        contracts = await read_contracts(self._engine, ids)
        try:
            late = await find_late(self._engine, self._clickhouse, contracts, ids, cutoff.cut)
            usage = await read_late(self._clickhouse, late, cutoff.cut)
        except TookTooLong as error:
            if len(looks) > 1:
                middle = len(looks) // 2
                parts = [await self._look_at(some, cutoff, now) for some in (looks[:middle], looks[middle:])]
                return both(*parts)
            await self._keep_failures([too_slow(contracts.held[ids[0]], error)])
            return LatePage(stopped=1)
        made = [adjustment_invoice(contracts, one, late, usage, cutoff.cut, self._ids.new) for one in ids]
        failed = [one.failed for one in made if one.failed is not None]
        async with transaction(self._engine) as conn:
            moved = await late_looks.close_looks(conn, looks, made, cutoff=cutoff, now=now)
            await keep_failures(conn, failed, now)
        billed = sum(len(one.invoices) for one in made if one.held.id in moved)
        metrics.closing_invoices.inc(billed)
        _tell(failed)
        return LatePage(looked=len(moved), billed=billed, stopped=len(failed))

    def _looked_before(self, now: datetime) -> datetime:
        return now - timedelta(seconds=self._settings.late_interval_s)

    async def _keep(self, made: Sequence[Billing], cutoff: Cutoff) -> frozenset[str]:
        """Writes what was made: the subscriptions that it was written for, or that had nothing to write."""
        now = self._clock.now()
        billed = [one for one in made if one.invoices]
        async with transaction(self._engine) as conn:
            moved = await closing_batch.close_batch(conn, billed, as_of=cutoff.as_of, now=now)
            overtaken = frozenset(one.held.id for one in billed) - moved
            failed = [one.failed for one in made if one.failed is not None and one.held.id not in overtaken]
            await keep_failures(conn, failed, now)
        metrics.closing_invoices.inc(sum(len(one.invoices) for one in billed if one.held.id in moved))
        for subscription_id in sorted(overtaken):
            # Somebody else was faster: the next run finds the subscription as it is then.
            _log.info("closing_overtaken", subscription=subscription_id)
        _tell(failed)
        return frozenset(one.held.id for one in made) - overtaken

    async def _keep_failures(self, failed: Sequence[FailedPeriod]) -> None:
        if not failed:
            return
        async with transaction(self._engine) as conn:
            await keep_failures(conn, failed, self._clock.now())
        _tell(failed)

    async def _until_complete(self, cut: int) -> None:
        try:
            await self._cuts.wait_complete(cut, self._settings.complete_within_s)
        except Conflict as error:
            # Open blocks are a worker's to finish: it may be back when this is tried again.
            raise Unavailable("ledger", error.message) from error


def _tell(failed: Sequence[FailedPeriod]) -> None:
    for one in failed:
        metrics.closing_failures.labels(one.code).inc()
        _log.error(
            "closing_failed",
            code=one.code,
            reason=one.message,
            subscription=one.subscription_id,
            period_start=one.start.isoformat(),
            period_end=one.end.isoformat(),
        )


def _subscription(period: DuePeriod) -> str:
    return period.subscription_id


def _subscriptions(periods: Sequence[DuePeriod]) -> list[str]:
    return list(dict.fromkeys(map(_subscription, periods)))
