"""The balances agent: usage.deltas and contracts.changed into the table `balances`, `entitlements.state` and thresholds.

One agent reads both topics, which are partitioned alike: so a customer has one owner that does one thing at a time.
"""

import asyncio
import functools
import shutil
from pathlib import Path
from typing import Any, cast

import structlog
from faust.types import TP

from domain.delta_progress import ReadPosition
from schemas.topics import BALANCES_CHANGELOG, CONTRACTS_CHANGED, USAGE_DELTAS, USAGE_RAW
from stores.postgres.cuts import Cuts
from stores.topics import checked_topic_ids
from streams.app import App
from streams.balances_foreign import Foreign
from streams.balances_reconcile import Reconciliation
from streams.balances_seed import Seeds
from streams.balances_steps import Balances
from streams.balances_table import BalancesTable
from streams.balances_takeover import TakeOver
from streams.consume import consume
from streams.deps import WorkerDeps
from streams.partition_reader import PartitionReader
from streams.retry import until_available
from streams.transport import Consumer

_log = structlog.get_logger(__name__)


async def check_local_state(app: App, deps: WorkerDeps) -> None:
    """Removes local tables that were filled from another changelog: a topic that was created again has other offsets.

    Before the app starts: whatever is removed is recovered.
    """
    budget_s = deps.settings.worker.retry_budget_s
    ids = await until_available(lambda: checked_topic_ids(deps.engine, deps.settings.kafka), budget_s, step="topic ids")
    _keep_only(app.conf.tabledir, ids[BALANCES_CHANGELOG])


def _keep_only(tables: Path, changelog_id: str) -> None:
    mark = tables / "changelog-id"
    if tables.exists() and (not mark.exists() or mark.read_text() != changelog_id):
        _log.warning("local balances are of another changelog and are removed", directory=str(tables))
        shutil.rmtree(tables)
    tables.mkdir(parents=True, exist_ok=True)
    mark.write_text(changelog_id)


def register(app: App, deps: WorkerDeps) -> None:
    """Put the agent, its table and its hooks on the app."""
    partitions = deps.settings.kafka.balance_partitions
    table = BalancesTable(app, partitions)
    topic = app.topic(
        USAGE_DELTAS, CONTRACTS_CHANGED, value_type=bytes, key_type=bytes, partitions=partitions, internal=False
    )
    app.agent(topic, name="meterstream.balances", concurrency=1)(functools.partial(_agent, app, deps, table))


async def _agent(app: App, deps: WorkerDeps, table: BalancesTable, stream: Any) -> None:
    budget_s = deps.settings.worker.retry_budget_s
    ids = await until_available(lambda: checked_topic_ids(deps.engine, deps.settings.kafka), budget_s, step="topic ids")
    topic_id = ids[USAGE_RAW]
    seeds = Seeds(deps.ledger, Cuts(deps.engine), deps.clickhouse, topic_id)
    consumer = cast("Consumer", app.consumer)

    async def read_from(topic: str, partition: int) -> ReadPosition:
        tp = TP(topic, partition)
        begins_at = (await consumer.earliest_offsets(tp))[tp]
        return ReadPosition(committed=consumer.committed(tp), begins_at=begins_at)

    reader = PartitionReader(deps.settings.kafka)
    take_over = TakeOver(table, seeds, reader, read_from, topic_id=topic_id, clock=deps.clock)
    reconciliation = Reconciliation(deps.settings.balances, table, seeds)
    comparing = asyncio.create_task(reconciliation.run(), name="reconciliation of balances")
    comparing.add_done_callback(_ended)
    steps = Balances(deps, table, seeds, take_over, Foreign(table, reader), reconciliation)
    try:
        await consume(stream, steps, budget_s=budget_s)
    finally:
        comparing.cancel()


def _ended(comparing: asyncio.Task[None]) -> None:
    if not comparing.cancelled() and (error := comparing.exception()) is not None:
        _log.error("balances are no longer compared with the usage", exc_info=error)
