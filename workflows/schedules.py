"""Schedules in Temporal: created or brought up to date when a worker starts."""

from dataclasses import replace
from datetime import timedelta

import structlog
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)

from runtime.settings import Settings
from schemas.closing import ClosingProgress
from workflows.closing import CloseDuePeriods
from workflows.ids import (
    CLOSING_SCHEDULE,
    CLOSING_WORKFLOW_ID,
    CUT_SCHEDULE,
    CUT_WORKFLOW_ID,
    ROLL_UP_SCHEDULE,
    ROLL_UP_WORKFLOW_ID,
)
from workflows.upkeep import RaiseCut, RollUpLedger

# A run finds all that is due, whenever it is: missed ones need no making up.
CATCH_UP = timedelta(minutes=1)

_log = structlog.get_logger(__name__)


async def ensure_schedules(client: Client, settings: Settings) -> None:
    """The schedules as the settings say. Safe to repeat by their ids.

    Whether the closing is paused is decided when its schedule is created, and by people from then on.
    """
    task_queue = settings.temporal.task_queue
    closing = settings.closing
    await _ensure(
        client,
        CLOSING_SCHEDULE,
        ScheduleActionStartWorkflow(
            CloseDuePeriods.run, ClosingProgress(), id=CLOSING_WORKFLOW_ID, task_queue=task_queue
        ),
        closing.schedule_interval_s,
        ScheduleState(paused=closing.schedule_paused, note="created paused" if closing.schedule_paused else None),
    )
    await _ensure(
        client,
        CUT_SCHEDULE,
        ScheduleActionStartWorkflow(RaiseCut.run, id=CUT_WORKFLOW_ID, task_queue=task_queue),
        closing.cut_interval_s,
    )
    await _ensure(
        client,
        ROLL_UP_SCHEDULE,
        ScheduleActionStartWorkflow(RollUpLedger.run, id=ROLL_UP_WORKFLOW_ID, task_queue=task_queue),
        settings.ledger.roll_up_interval_s,
    )


async def _ensure(
    client: Client,
    name: str,
    action: ScheduleActionStartWorkflow,
    interval_s: int,
    state: ScheduleState | None = None,
) -> None:
    """At whole multiples of the interval: an hourly one runs on the hour."""
    wanted = Schedule(
        action=action,
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(seconds=interval_s))]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=CATCH_UP),
        state=state or ScheduleState(),
    )
    try:
        await client.create_schedule(name, wanted)
    except ScheduleAlreadyRunningError:

        def brought_up_to_date(found: ScheduleUpdateInput) -> ScheduleUpdate:
            return ScheduleUpdate(schedule=replace(wanted, state=found.description.schedule.state))

        await client.get_schedule_handle(name).update(brought_up_to_date)
        return
    _log.info("schedule_created", schedule=name, paused=wanted.state.paused)
