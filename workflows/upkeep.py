"""The hourly cut, and the hourly roll-up of the ledger: one activity each, begun by their schedules."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from schemas.upkeep import RollUpReport
    from workflows.calls import beating
    from workflows.ids import RAISE_CUT, ROLL_UP_LEDGER
    from workflows.upkeep_activities import UpkeepActivities

CUT_WITHIN = timedelta(minutes=1)
ROLL_UP_WITHIN = timedelta(minutes=30)


@workflow.defn(name=RAISE_CUT)
class RaiseCut:
    @workflow.run
    async def run(self) -> int:
        """The newest cut."""
        return await workflow.execute_activity_method(UpkeepActivities.raise_cut, **beating(CUT_WITHIN))


@workflow.defn(name=ROLL_UP_LEDGER)
class RollUpLedger:
    @workflow.run
    async def run(self) -> RollUpReport:
        return await workflow.execute_activity_method(UpkeepActivities.roll_up_ledger, **beating(ROLL_UP_WITHIN))
