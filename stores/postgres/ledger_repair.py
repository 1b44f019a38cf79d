"""What a repair does to the ledger and nobody else: keep workers away, and enter blocks that the ledger has forgotten."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.errors import Conflict
from schemas.ledger import Intent
from stores.postgres.engine import autocommit

# One lock a partition; TAKE_OVER asks for it in passing (ledger_statements.py). It ends with the session that holds it.
_TRY_LOCK = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0)) AS taken")
_UNLOCK = text("SELECT pg_advisory_unlock_all()")
_CATALOG_HEAD = text("SELECT version FROM catalog_head WHERE id = 1")

# protocol 14, 18: epoch and chain as in every step. The cut is that of the rows in `events`.
_ADOPT = text("""
    WITH cas AS (
        UPDATE ledger_partitions SET last_offset = :last_offset, version = greatest(version, :version),
            last_logged_at = greatest(last_logged_at, CAST(:last_logged_at AS timestamptz))
        WHERE topic_id = :topic_id AND partition = :partition AND epoch = :epoch
            AND last_offset = :first_offset - 1 AND open_last_offset IS NULL
        RETURNING topic_id, partition
    )
    INSERT INTO ledger_blocks (topic_id, partition, first_offset, last_offset, shard, epoch, version, evaluator, cut,
        insert_before, state, stored, duplicate, rejected, forwarded, counts, row_hash, max_event_at, first_logged_at,
        last_logged_at, intent_at, done_at)
    SELECT cas.topic_id, cas.partition, :first_offset, :last_offset, :shard, :epoch, :version, :evaluator, :cut, now(),
        'done', :stored, :duplicate, :rejected, :forwarded, CAST(:counts AS jsonb), :row_hash,
        CAST(:max_event_at AS timestamptz), CAST(:first_logged_at AS timestamptz), CAST(:last_logged_at AS timestamptz),
        now(), now()
    FROM cas
    ON CONFLICT (topic_id, partition, first_offset) DO UPDATE SET
        last_offset = excluded.last_offset, shard = excluded.shard, epoch = excluded.epoch, version = excluded.version,
        evaluator = excluded.evaluator, cut = excluded.cut, insert_before = excluded.insert_before,
        stored = excluded.stored, duplicate = excluded.duplicate, rejected = excluded.rejected,
        forwarded = excluded.forwarded, counts = excluded.counts, row_hash = excluded.row_hash,
        max_event_at = excluded.max_event_at, first_logged_at = excluded.first_logged_at,
        last_logged_at = excluded.last_logged_at, intent_at = excluded.intent_at, done_at = excluded.done_at,
        state = CASE WHEN ledger_blocks.state = 'empty' THEN excluded.state END
    RETURNING first_offset
""")


def lock_name(topic_id: str, partition: int) -> str:
    return f"meterstream repair {topic_id}/{partition}"


@asynccontextmanager
async def locked(engine: AsyncEngine, topic_id: str, partitions: list[int]) -> AsyncIterator[None]:
    """Nobody takes these partitions over meanwhile, and no other repair touches them. Raises Conflict `repair_running`.

    The lock is the session's: when this process or its connection is gone, so is the lock.
    """
    async with autocommit(engine) as connection:
        try:
            for partition in partitions:
                name = {"name": lock_name(topic_id, partition)}
                if not (await connection.execute(_TRY_LOCK, name)).scalar_one():
                    raise Conflict("repair_running", f"partition {partition} is being repaired or taken over just now")
            yield
        finally:
            await connection.execute(_UNLOCK)


async def adopt(engine: AsyncEngine, epoch: int, intent: Intent, cut: int) -> bool:
    """Enter a block whose rows are in `events` as done, with the cut that they carry. False where the chain says no.

    Idempotency key: (topic id, partition, first offset): a second time the chain has moved on.
    """
    arguments: dict[str, Any] = {
        **msgspec.structs.asdict(intent),
        "counts": msgspec.json.encode(intent.counts).decode(),
        "epoch": epoch,
        "cut": cut,
    }
    async with autocommit(engine) as connection:
        return (await connection.execute(_ADOPT, arguments)).first() is not None


async def catalog_head(engine: AsyncEngine) -> int:
    """The newest version of the catalog that PostgreSQL knows."""
    async with autocommit(engine) as connection:
        return int((await connection.execute(_CATALOG_HEAD)).scalar_one())
