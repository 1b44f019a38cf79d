"""Schedules in Temporal: created or brought up to date when a worker starts."""

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

from runtime.settings import ClosingSettings
from schemas.closing import ClosingProgress
from workflows.closing import CloseDuePeriods
from workflows.ids import CLOSING_SCHEDULE, CLOSING_WORKFLOW_ID

# A run finds all that is due, whenever it is: missed ones need no making up.
CATCH_UP = timedelta(minutes=1)

_log = structlog.get_logger(__name__)


async def ensure_closing_schedule(client: Client, settings: ClosingSettings, task_queue: str) -> None:
    """The closing schedule as the settings say. Safe to repeat by its id.

    Whether it is paused is decided when it is created, and by people from then on.
    """
    state = ScheduleState(paused=settings.schedule_paused, note="created paused" if settings.schedule_paused else None)
    wanted = _schedule(settings, task_queue, state)
    try:
        await client.create_schedule(CLOSING_SCHEDULE, wanted)
    except ScheduleAlreadyRunningError:

        def brought_up_to_date(found: ScheduleUpdateInput) -> ScheduleUpdate:
            return ScheduleUpdate(schedule=_schedule(settings, task_queue, found.description.schedule.state))

        await client.get_schedule_handle(CLOSING_SCHEDULE).update(brought_up_to_date)
        return
    _log.info("schedule_created", schedule=CLOSING_SCHEDULE, paused=settings.schedule_paused)


def _schedule(settings: ClosingSettings, task_queue: str, state: ScheduleState) -> Schedule:
    return Schedule(
        action=ScheduleActionStartWorkflow(
            CloseDuePeriods.run, ClosingProgress(), id=CLOSING_WORKFLOW_ID, task_queue=task_queue
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(seconds=settings.schedule_interval_s))]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=CATCH_UP),
        state=state,
    )
