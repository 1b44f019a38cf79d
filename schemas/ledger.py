"""The block ledger (protocol A): one row a partition, one row a block."""

from datetime import datetime
from typing import Literal

import msgspec

BlockState = Literal["intent", "done", "gap", "empty"]


class LedgerPartition(msgspec.Struct, frozen=True, kw_only=True):
    """Progress and fence of one partition. `last_offset` is that of the last done block, -1 before the first."""

    topic_id: str
    partition: int
    epoch: int
    generation: int
    last_offset: int
    version: int
    idle_as_of: datetime | None


class TenantCount(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Outcomes of one block for one tenant, environment and receipt hour (epoch hours)."""

    tenant: str
    environment: str
    hour: int
    stored: int
    duplicate: int
    rejected: int
    forwarded: int


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a block's rows depend on (protocol 7), written before its insert."""

    topic_id: str
    partition: int
    first_offset: int
    last_offset: int
    shard: int
    version: int
    evaluator: int
    stored: int
    duplicate: int
    rejected: int
    forwarded: int
    counts: list[TenantCount]
    row_hash: bytes
    max_event_at: datetime | None
    first_logged_at: datetime
    last_logged_at: datetime


class LedgerBlock(msgspec.Struct, frozen=True, kw_only=True):
    """An intent as recorded: with what PostgreSQL decided for it.

    `blocks` more than 1: the row stands for so many finished blocks of one cut, version and hour, rolled up. Its range is
    theirs and its counts are their sums; their deltas have been sent long ago, and no row in `events` names its hash.
    """

    intent: Intent
    epoch: int
    cut: int
    state: BlockState
    intent_at: datetime
    insert_before: datetime
    blocks: int = 1


class Watermark(msgspec.Struct, frozen=True, kw_only=True):
    """`as_of` of an answer: every event answered 202 before this instant is included (protocol 26)."""

    as_of: datetime
    partitions: int
