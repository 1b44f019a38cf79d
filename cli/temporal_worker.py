"""`meterstream temporal-worker`: runs the workflows, which close billing periods, raise the cut and roll the ledger up."""

import asyncio
import contextlib
import os
import signal

import structlog
import typer
from temporalio.client import Client

from domain.errors import Unavailable
from runtime.clock import SystemClock
from runtime.health import Health
from runtime.ids import Ids
from runtime.logs import configure_logging
from runtime.readiness import Part, Readiness
from runtime.settings import Settings, load_settings
from stores.clickhouse.client import ClickhouseClient
from stores.postgres.engine import answers, create_engine
from workflows.activities import ClosingActivities
from workflows.upkeep_activities import UpkeepActivities
from workflows.worker import create_worker, is_serving, prepared

_log = structlog.get_logger(__name__)

app = typer.Typer()


@app.command()
def temporal_worker() -> None:
    """Run workflows until SIGTERM or Ctrl-C; what is cut off is taken up again by the next worker."""
    settings = load_settings(os.environ)
    configure_logging(settings.log, brief=(Unavailable,))
    asyncio.run(serve(settings))


class _Connection:
    """The client of Temporal once there is one, and whether the worker runs on it."""

    def __init__(self) -> None:
        self.client: Client | None = None
        self.is_working = False

    async def is_there(self) -> bool:
        return self.client is not None and self.is_working and await is_serving(self.client)


async def serve(settings: Settings) -> None:
    """Runs until the process is told to stop. Temporal that is away is waited for."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with contextlib.AsyncExitStack() as opened:
        clock = SystemClock()
        engine = create_engine(settings.postgres)
        opened.push_async_callback(engine.dispose)
        clickhouse = ClickhouseClient(settings.clickhouse)
        opened.push_async_callback(clickhouse.close)
        connection = _Connection()
        # A closing that finds a store away is repeated by Temporal: the worker itself needs Temporal alone.
        parts = [
            Part(name="temporal", is_there=connection.is_there),
            Part(name="postgres", is_there=lambda: answers(engine), need="never"),
            Part(name="clickhouse", is_there=clickhouse.ping, need="never"),
        ]
        at, readiness = settings.temporal_worker, Readiness(parts, settings.health.probe_timeout_s)
        await opened.enter_async_context(Health(readiness).serving(at.health_host, at.health_port))
        client = connection.client = await prepared(settings, stopping)
        if client is None:
            return
        closing = ClosingActivities(
            engine=engine, clickhouse=clickhouse, clock=clock, ids=Ids(clock), settings=settings.closing
        )
        upkeep = UpkeepActivities(engine=engine, clock=clock, closing=settings.closing, ledger=settings.ledger)
        async with create_worker(client, settings.temporal.task_queue, closing, upkeep, at.stop_within_s):
            connection.is_working = True
            _log.info("temporal_worker_started", task_queue=settings.temporal.task_queue, health_port=at.health_port)
            await stopping.wait()
            connection.is_working = False
            _log.info("temporal_worker_stopping")
