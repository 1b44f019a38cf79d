"""The closing of billing periods: durable, and decided by its history alone."""

from itertools import groupby

from msgspec.structs import replace
from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from domain.closing import advanced
    from schemas.closing import (
        BatchClosed,
        ClosingBatch,
        ClosingProgress,
        ClosingReport,
        Cutoff,
        CutoffTaken,
        DuePage,
        DueQuestion,
        FailedPeriod,
    )
    from schemas.late_usage import LatePage
    from stores.clickhouse.client import TookTooLong
    from workflows.activities import ClosingActivities
    from workflows.calls import beating
    from workflows.ids import CLOSE_DUE_PERIODS

# A history of this many batches stays far below Temporal's limits; then the run goes on in a new one.
BATCHES_PER_HISTORY = 100
# Histories from before subscriptions that have ended were looked at do not have these steps.
LATE_USAGE = "late-usage"
UNEXPECTED = "unexpected_error"
TOO_SLOW = "usage_too_slow"
REASON_MAX_CHARS = 500


@workflow.defn(name=CLOSE_DUE_PERIODS)
class CloseDuePeriods:
    """Takes a cutoff and closes, batch by batch, every period that is due at it. One pass over all subscriptions."""

    @workflow.run
    async def run(self, progress: ClosingProgress) -> ClosingReport:
        cutoff = progress.cutoff or await self._cutoff()
        if cutoff is None:
            return ClosingReport(cut=None, billed=0, stopped=0)
        progress = replace(progress, cutoff=cutoff)
        batches = 0
        while True:
            page = await self._find(DueQuestion(cutoff=cutoff, after=progress.after))
            closed = BatchClosed()
            if page.periods:
                closed = await self._close(ClosingBatch(cutoff=cutoff, periods=page.periods))
            progress = advanced(progress, page, closed)
            if page.is_last:
                return await self._late(cutoff, progress)
            batches += 1
            if batches == BATCHES_PER_HISTORY:
                workflow.continue_as_new(progress)

    async def _late(self, cutoff: Cutoff, progress: ClosingProgress) -> ClosingReport:
        """What came late to subscriptions that have ended, once all that is due is billed."""
        late = LatePage(is_last=not workflow.patched(LATE_USAGE))
        billed = stopped = 0
        while not late.is_last:
            question = DueQuestion(cutoff=cutoff, after=late.after)
            late = await workflow.execute_activity_method(ClosingActivities.bill_late, question, **beating())
            billed, stopped = billed + late.billed, stopped + late.stopped
        return ClosingReport(cut=cutoff.cut, billed=progress.billed + billed, stopped=progress.stopped + stopped)

    async def _cutoff(self) -> Cutoff | None:
        """None when nothing is due."""
        while True:
            taken: CutoffTaken = await workflow.execute_activity_method(ClosingActivities.take_cutoff, **beating())
            if not taken.wait_s:
                return taken.cutoff
            await workflow.sleep(taken.wait_s)

    async def _find(self, question: DueQuestion) -> DuePage:
        return await workflow.execute_activity_method(ClosingActivities.find_due, question, **beating())

    async def _close(self, batch: ClosingBatch) -> BatchClosed:
        """A batch that fails by what is in it is taken apart, so that one subscription holds up no other."""
        try:
            return await self._close_batch(batch)
        except ActivityError as error:
            if is_passing(error):
                raise
            code, reason = code_of(error), str(error.cause)[:REASON_MAX_CHARS]
        parts = [tuple(periods) for _, periods in groupby(batch.periods, key=lambda period: period.subscription_id)]
        if len(parts) == 1:
            return await self._give_up(batch, code, reason)
        closed = BatchClosed()
        for part in parts:
            one = await self._close(replace(batch, periods=part))
            closed = BatchClosed(
                billed=closed.billed + one.billed,
                already=closed.already + one.already,
                stopped=closed.stopped + one.stopped,
            )
        return closed

    async def _close_batch(self, batch: ClosingBatch) -> BatchClosed:
        return await workflow.execute_activity_method(ClosingActivities.close_batch, batch, **beating())

    async def _give_up(self, batch: ClosingBatch, code: str, reason: str) -> BatchClosed:
        first = batch.periods[0]
        failed = FailedPeriod(
            subscription_id=first.subscription_id, start=first.start, end=first.end, code=code, message=reason
        )
        await workflow.execute_activity_method(ClosingActivities.record_failure, failed, **beating())
        return BatchClosed(stopped=(first.subscription_id,))


def is_passing(error: ActivityError) -> bool:
    """Whether it says nothing about the batch: a service or a worker was away, or the run is cancelled."""
    cause = error.cause
    return not isinstance(cause, ApplicationError) or cause.type == "Unavailable"


def code_of(error: ActivityError) -> str:
    """Why a single subscription is given up until the next run, when its batch did not say so itself."""
    cause = error.cause
    return TOO_SLOW if isinstance(cause, ApplicationError) and cause.type == TookTooLong.__name__ else UNEXPECTED
