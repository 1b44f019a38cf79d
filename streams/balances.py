"""The balances agent: usage.deltas and contracts.changed into the table `balances`, `entitlements.state` and thresholds.

One agent reads both topics, which are partitioned alike: so a customer has one owner that does one thing at a time.
"""

import functools
from typing import Any

from faust.types import TP

from schemas.topics import CONTRACTS_CHANGED, USAGE_DELTAS, USAGE_RAW
from stores.postgres.cuts import Cuts
from stores.topics import checked_topic_ids
from streams.app import App
from streams.balances_seed import Seeds
from streams.balances_steps import Balances
from streams.balances_table import BalancesTable
from streams.consume import consume
from streams.deps import WorkerDeps
from streams.retry import until_available


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

    async def end_offset(partition: int) -> int:
        tp = TP(USAGE_DELTAS, partition)
        return int((await app.consumer.highwaters(tp))[tp])

    steps = Balances(deps, table, seeds, topic_id, end_offset)

    async def forget(*_: Any, **__: Any) -> None:
        # Whoever owned a partition meanwhile has written its table: what we remember of it is old.
        steps.forget()

    app.on_partitions_assigned.connect(forget)
    app.on_rebalance_complete.connect(forget)
    await consume(stream, steps, budget_s=budget_s)
