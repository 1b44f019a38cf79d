"""`meterstream api`: one process that serves HTTP, and the outbox relay beside it."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
import typer
import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server
from sqlalchemy.ext.asyncio import AsyncEngine

from api.app import Api, create_app
from api.auth import Authenticator
from api.deps import ApiDeps
from api.entitlements_view import EntitlementsView
from api.limits_view import LimitsView
from domain.errors import Unavailable
from runtime import garbage
from runtime.clock import SystemClock
from runtime.ids import Ids
from runtime.logs import configure_logging
from runtime.readiness import Part, Readiness
from runtime.settings import Settings, load_settings
from schemas.topics import USAGE_RAW
from stores.clickhouse.client import ClickhouseClient
from stores.kafka import Producer
from stores.log_ends import LogEnds
from stores.postgres.engine import answers, create_engine
from stores.postgres.keys import ApiKeys
from stores.relay import Relay

_BACKLOG = 1024

# Objects between two looks of the garbage collector. Requests make almost no cycles; errors make a few, which may hold on
# to a body: so not more.
_YOUNG = 10_000

_log = structlog.get_logger(__name__)

app = typer.Typer()


@app.command()
def api() -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C; requests being worked on are finished first."""
    settings = load_settings(os.environ)
    configure_logging(settings.log)
    uvloop.run(serve(settings))


async def serve(settings: Settings) -> None:
    """Runs until the process is told to stop."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with wired(settings, stopping) as deps:
        application = create_app(deps)
        server = Server(
            application,
            address=settings.api.host,
            port=settings.api.port,
            interface=Interfaces.ASGI,
            websockets=False,
            backlog=_BACKLOG,
            log_access=False,
            log_enabled=False,
        )
        serving = asyncio.create_task(server.serve())
        _log.info("api_started", host=settings.api.host, port=settings.api.port)
        settling = asyncio.create_task(_settle(deps))
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait([serving, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        settling.cancel()
        await _finish(server, serving, application, settings)


async def _settle(deps: ApiDeps) -> None:
    """Keeps the garbage collector from what the start has made, and from the balances once they are read."""
    garbage.settle(_YOUNG)
    await deps.limits.caught_up()
    if deps.entitlements is not None:
        await deps.entitlements.caught_up()
    garbage.settle(_YOUNG)


async def _finish(server: Server, serving: "asyncio.Task[None]", application: Api, settings: Settings) -> None:
    """Nothing new is taken in, what is being worked on is answered. A serving that ended by itself raises its error."""
    if not serving.done():
        _log.info("api_stopping", active=application.active)
        server.stop()  # type: ignore[no-untyped-call]
        # An ingest request ends within the broker's time-out.
        if not await application.drained(settings.kafka.request_timeout_s + settings.api.stop_within_s):
            _log.warning("api_gave_up_requests", active=application.active)
    await serving


@asynccontextmanager
async def wired(settings: Settings, stopping: asyncio.Event) -> AsyncIterator[ApiDeps]:
    """All that handlers work with, opened; closed in the opposite order. Services that are away do not stop the start:
    `/readyz` names them until they answer.
    """
    async with contextlib.AsyncExitStack() as opened:
        clock = SystemClock()
        ids = Ids(clock)
        engine = create_engine(settings.postgres)
        opened.push_async_callback(engine.dispose)
        clickhouse = ClickhouseClient(settings.clickhouse)
        opened.push_async_callback(clickhouse.close)
        ends = LogEnds(
            settings.kafka, USAGE_RAW, settings.kafka.raw_partitions, within_s=settings.health.probe_timeout_s
        )
        opened.push_async_callback(ends.close)
        producer = Producer(settings.kafka)
        opened.push_async_callback(producer.stop)
        limits = LimitsView(settings.kafka)
        opened.push_async_callback(limits.stop)
        await limits.start()
        entitlements = EntitlementsView(settings.kafka)
        opened.push_async_callback(entitlements.stop)
        await entitlements.start()
        await opened.enter_async_context(_in_background(Relay(settings.postgres, settings.kafka)))
        try:
            await producer.start()
        except Unavailable as error:
            _log.warning("broker_away_at_start", reason=error.message)
        yield ApiDeps(
            settings=settings,
            clock=clock,
            ids=ids,
            engine=engine,
            producer=producer,
            auth=Authenticator(
                ApiKeys(engine, clock, ids),
                settings.api.key_cache_s,
                time.monotonic,
                stale_max_s=settings.api.key_stale_max_s,
                renewal_wait_s=settings.api.key_renewal_wait_s,
                lookup_timeout_s=settings.api.key_lookup_timeout_s,
            ),
            limits=limits,
            stopping=stopping,
            readiness=readiness(settings, engine, producer, limits, entitlements, clickhouse),
            clickhouse=clickhouse,
            end_offsets=ends.read,
            entitlements=entitlements,
        )


@asynccontextmanager
async def _in_background(relay: Relay) -> AsyncIterator[None]:
    task = asyncio.create_task(relay.run(), name="outbox relay")
    task.add_done_callback(_relay_ended)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _relay_ended(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("the outbox relay has stopped: catalog changes do not leave", exc_info=error)


def readiness(
    settings: Settings,
    engine: AsyncEngine,
    producer: Producer,
    limits: LimitsView,
    entitlements: EntitlementsView,
    clickhouse: ClickhouseClient,
) -> Readiness:
    """Taking events and answering checks needs the log and what was read of it. PostgreSQL is needed until the first keys
    can be looked up; after that its absence, and ClickHouse's, must not make a balancer turn events away.
    """
    within_s = settings.health.probe_timeout_s

    async def kafka() -> bool:
        return await producer.is_answering(USAGE_RAW, settings.kafka.raw_partitions, within_s)

    async def catalog() -> bool:
        return limits.is_ready

    async def balances() -> bool:
        return entitlements.is_ready

    parts = [
        Part(name="kafka", is_there=kafka),
        Part(name="catalog", is_there=catalog),
        Part(name="entitlements", is_there=balances),
        Part(name="postgres", is_there=lambda: answers(engine), need="once"),
        Part(name="clickhouse", is_there=clickhouse.ping, need="never"),
    ]
    return Readiness(parts, within_s)
