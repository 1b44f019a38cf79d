"""What the ingest worker tells the balances worker: one record per block and delta partition, also when empty."""

from decimal import Decimal

import msgspec


class Latest(msgspec.Struct, frozen=True, kw_only=True, array_like=True, order=True):
    """The newest value so far: ordered by event time, then by log position (log time, partition, offset, index)."""

    time_ms: int
    log_ms: int
    partition: int
    offset: int
    index: int
    value: Decimal


class UsageChange(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What one block adds for (customer, meter generation, event second).

    `customer_id` is resolved at the block's catalog version ("" never occurs: events of unknown customers make no
    change; their usage is found by the seed once the customer exists). `matches` counts events matched, `values`
    those with a numeric value; `total` is exact. Unique counts cannot be added: they are read again when touched.
    """

    tenant: str
    environment: str
    customer_id: str
    meter_id: str
    generation: int
    second: int
    matches: int
    values: int
    total: Decimal
    lowest: Decimal | None = None
    highest: Decimal | None = None
    latest: Latest | None = None


class BlockDeltas(msgspec.Struct, frozen=True, kw_only=True):
    """Value of a `usage.deltas` record; its key is `topic_id/partition`, its partition that of its customers.

    Idempotent by (topic_id, partition, last_offset): a reader that has applied it skips it (protocol 22).
    `first_offset = last_offset + 1` marks an idle tick: no block, `as_of_ms` only.
    """

    topic_id: str
    partition: int
    first_offset: int
    last_offset: int
    version: int
    as_of_ms: int
    changes: list[UsageChange]

    @property
    def is_tick(self) -> bool:
        return self.first_offset > self.last_offset
