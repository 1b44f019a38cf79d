"""The hourly cut, and the hourly roll-up of the ledger: one activity each, begun by their schedules."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from schemas.upkeep import RollUpReport
    from workflows.closing import RETRY
    from workflows.ids import RAISE_CUT, ROLL_UP_LEDGER
    from workflows.upkeep_activities import UpkeepActivities

CUT_WITHIN = timedelta(minutes=1)
# A slice of the ledger takes seconds; each of its hours beats once.
ROLL_UP_WITHIN = timedelta(minutes=30)
ROLL_UP_BEATS = timedelta(minutes=2)


@workflow.defn(name=RAISE_CUT)
class RaiseCut:
    @workflow.run
    async def run(self) -> int:
        """The newest cut."""
        return await workflow.execute_activity_method(
            UpkeepActivities.raise_cut, start_to_close_timeout=CUT_WITHIN, retry_policy=RETRY
        )


@workflow.defn(name=ROLL_UP_LEDGER)
class RollUpLedger:
    @workflow.run
    async def run(self) -> RollUpReport:
        return await workflow.execute_activity_method(
            UpkeepActivities.roll_up_ledger,
            start_to_close_timeout=ROLL_UP_WITHIN,
            heartbeat_timeout=ROLL_UP_BEATS,
            retry_policy=RETRY,
        )
