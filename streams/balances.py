"""The balances agent: usage.deltas and contracts.changed into the table `balances`, `entitlements.state` and thresholds.

One agent reads both topics, which are partitioned alike: so a customer has one owner that does one thing at a time.
"""

import functools
from typing import Any, cast

from faust.types import TP

from domain.delta_progress import ReadPosition
from schemas.topics import CONTRACTS_CHANGED, USAGE_DELTAS, USAGE_RAW
from stores.postgres.cuts import Cuts
from stores.topics import checked_topic_ids
from streams.app import App
from streams.balances_seed import Seeds
from streams.balances_steps import Balances
from streams.balances_table import BalancesTable
from streams.balances_takeover import TakeOver
from streams.consume import consume
from streams.deps import WorkerDeps
from streams.partition_reader import PartitionReader
from streams.retry import until_available
from streams.transport import Consumer


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
    await consume(stream, Balances(deps, table, seeds, take_over), budget_s=budget_s)
