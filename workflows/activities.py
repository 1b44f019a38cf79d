"""What closings do to the world. Each activity may be killed at any point and run again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio import activity

from domain.billing import bill, counted_by, failure_of, ranges_of
from domain.closing import closable_before, due_page
from domain.errors import Conflict, Unavailable
from runtime import metrics
from runtime.clock import Clock
from runtime.ids import Ids
from runtime.settings import ClosingSettings
from schemas.billing import Billing, CountedBy
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
from schemas.topics import USAGE_RAW
from stores.billing import read_contracts, read_usage
from stores.clickhouse.client import ClickhouseClient
from stores.postgres.closings import billed_among, close_periods, due_subscriptions, is_any_due, keep_failure
from stores.postgres.cutoffs import reach_of
from stores.postgres.cuts import Cuts
from stores.postgres.engine import transaction
from stores.postgres.ledger import Ledger
from stores.postgres.progress import ProgressReader

HEARTBEAT_S = 2.0

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
        return (self.take_cutoff, self.find_due, self.close_batch, self.record_failure)

    @activity.defn
    async def take_cutoff(self) -> CutoffTaken:
        """A complete cutoff that holds all that was counted when this began; none when nothing is due.

        Safe to repeat: another cutoff, the same meaning.
        """
        async with _beating():
            topic_id = await self._progress.topic_id()
            watermark = await self._ledger.watermark(topic_id)
            now = self._clock.now()
            async with transaction(self._engine) as conn:
                if not await is_any_due(conn, closable_before(now, self._settings.grace_s, watermark.as_of)):
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
        for failed in untold:
            await self._keep_failure(failed)
        return page

    @activity.defn
    async def close_batch(self, batch: ClosingBatch) -> BatchClosed:
        """Bills each period once: one transaction a subscription.

        Safe to repeat by the uniqueness of `billed_periods`: what is billed already is found and counts as done. What a
        subscription lacks stops that subscription alone, and is kept in `closing_failures`.
        """
        async with _beating():
            async with transaction(self._engine) as conn:
                billed = await billed_among(conn, batch.periods)
            left = [period for period in batch.periods if (period.subscription_id, period.start) not in billed]
            contracts = await read_contracts(self._engine, _subscriptions(left))
            cut = batch.cutoff.cut
            usage = await read_usage(self._clickhouse, contracts.meters, ranges_of(contracts, left), cut)
            closed, stopped = 0, []
            for subscription_id, periods in groupby(left, key=_subscription):
                billing = bill(contracts, list(periods), usage, cut, self._ids.new)
                done, failed = await self._keep(billing, counted_by(contracts, billing.held), batch)
                closed += done
                if failed is not None:
                    stopped.append(subscription_id)
            return BatchClosed(billed=closed, already=len(batch.periods) - len(left), stopped=tuple(stopped))

    @activity.defn
    async def record_failure(self, failed: FailedPeriod) -> None:
        """Keeps why a period stands still. Safe to repeat by its period: the number of attempts grows."""
        await self._keep_failure(failed)

    async def _keep(self, billing: Billing, by: CountedBy, batch: ClosingBatch) -> tuple[int, FailedPeriod | None]:
        """Writes what was made: the number of periods closed, and what stopped the subscription."""
        failed = billing.failed
        closed = 0
        if billing.invoices:
            try:
                async with transaction(self._engine) as conn:
                    kept = await close_periods(
                        conn,
                        billing.held,
                        billing.invoices,
                        by,
                        as_of=batch.cutoff.as_of,
                        now=self._clock.now(),
                    )
                closed = len(kept)
                metrics.closing_invoices.inc(closed)
            except Conflict as error:
                first = billing.invoices[0]
                period = DuePeriod(subscription_id=billing.held.id, start=first.period_start, end=first.period_end)
                # Somebody else was faster: the next run finds the subscription as it is then.
                _log.info("closing_overtaken", subscription=billing.held.id, reason=error.message)
                return 0, failure_of(period, error)
        if failed is not None:
            await self._keep_failure(failed)
        return closed, failed

    async def _keep_failure(self, failed: FailedPeriod) -> None:
        async with transaction(self._engine) as conn:
            await keep_failure(conn, failed, self._clock.now())
        metrics.closing_failures.labels(failed.code).inc()
        _log.error(
            "closing_failed",
            code=failed.code,
            reason=failed.message,
            subscription=failed.subscription_id,
            period_start=failed.start.isoformat(),
            period_end=failed.end.isoformat(),
        )

    async def _until_complete(self, cut: int) -> None:
        try:
            await self._cuts.wait_complete(cut, self._settings.complete_within_s)
        except Conflict as error:
            # Open blocks are a worker's to finish: it may be back when this is tried again.
            raise Unavailable("ledger", error.message) from error


def _subscription(period: DuePeriod) -> str:
    return period.subscription_id


def _subscriptions(periods: Sequence[DuePeriod]) -> list[str]:
    return list(dict.fromkeys(map(_subscription, periods)))


@asynccontextmanager
async def _beating() -> AsyncIterator[None]:
    """Tells Temporal that the activity goes on: a killed worker is noticed when the beats stop."""

    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(HEARTBEAT_S)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
