"""What a role's agents work with: opened before the app starts, closed after it has stopped."""

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.clock import Clock
from runtime.settings import Settings
from stores.clickhouse.client import ClickhouseClient
from stores.kafka import Producer
from stores.postgres.engine import create_engine
from stores.postgres.ledger import Ledger
from streams.catalog_view import CatalogView


class WorkerDeps(msgspec.Struct, frozen=True, kw_only=True):
    """Each object connects when it is first used, so a worker can start before its services do."""

    settings: Settings
    clock: Clock
    engine: AsyncEngine
    ledger: Ledger
    clickhouse: ClickhouseClient
    producer: Producer
    catalog: CatalogView


def wire(settings: Settings, clock: Clock) -> WorkerDeps:
    """The objects of one worker process; nothing is connected yet."""
    engine = create_engine(settings.postgres)
    return WorkerDeps(
        settings=settings,
        clock=clock,
        engine=engine,
        ledger=Ledger(engine),
        clickhouse=ClickhouseClient(settings.clickhouse),
        producer=Producer(settings.kafka),
        catalog=CatalogView(settings.kafka),
    )


async def close(deps: WorkerDeps) -> None:
    await deps.catalog.stop()
    await deps.producer.stop()
    await deps.clickhouse.close()
    await deps.engine.dispose()
