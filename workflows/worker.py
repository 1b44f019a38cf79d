"""The connection to Temporal, and the worker that runs our workflows and activities."""

import asyncio
from datetime import timedelta

import structlog
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Worker

from domain.errors import Unavailable
from runtime.settings import Settings, TemporalSettings
from workflows.activities import ClosingActivities
from workflows.calls import Beats
from workflows.closing import CloseDuePeriods
from workflows.converter import DATA_CONVERTER
from workflows.schedules import ensure_schedules
from workflows.upkeep import RaiseCut, RollUpLedger
from workflows.upkeep_activities import UpkeepActivities

SERVICE = "temporal"
MAX_ACTIVITIES = 4
FIRST_WAIT_S = 0.25

_log = structlog.get_logger(__name__)


async def connect(settings: TemporalSettings) -> Client:
    """Raises Unavailable when nobody answers, after `connect_timeout_s` at the latest."""
    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            return await Client.connect(settings.address, namespace=settings.namespace, data_converter=DATA_CONVERTER)
    except (RuntimeError, RPCError, TimeoutError) as error:
        raise Unavailable(SERVICE, f"Temporal does not answer at {settings.address}: {error}") from error


async def prepared(settings: Settings, stopping: asyncio.Event) -> Client | None:
    """A client, once Temporal answers and has our schedules; None when told to stop before."""
    wait_s = FIRST_WAIT_S
    while not stopping.is_set():
        try:
            return await _prepare(settings)
        except Unavailable as error:
            _log.warning("waiting_for_service", service=error.service, reason=error.message)
        try:
            async with asyncio.timeout(wait_s):
                await stopping.wait()
        except TimeoutError:
            wait_s = min(wait_s * 2, settings.temporal_worker.retry_wait_max_s)
    return None


async def _prepare(settings: Settings) -> Client:
    client = await connect(settings.temporal)
    try:
        await ensure_schedules(client, settings)
    except RPCError as error:  # also: the namespace is not there yet
        raise Unavailable(SERVICE, f"Temporal refuses the schedules: {error}") from error
    return client


def create_worker(
    client: Client, task_queue: str, closing: ClosingActivities, upkeep: UpkeepActivities, stop_within_s: float = 5.0
) -> Worker:
    """Runs within `async with`. Leaving it lets activities finish for a few seconds; what is cut off is repeated."""
    return Worker(
        client,
        task_queue=task_queue,
        workflows=[CloseDuePeriods, RaiseCut, RollUpLedger],
        activities=[*closing.all, *upkeep.all],
        interceptors=[Beats()],
        max_concurrent_activities=MAX_ACTIVITIES,
        graceful_shutdown_timeout=timedelta(seconds=stop_within_s),
    )


async def is_serving(client: Client, within_s: float = 2.0) -> bool:
    """Whether Temporal serves."""
    try:
        return await client.service_client.check_health(timeout=timedelta(seconds=within_s))
    except RPCError:
        return False
