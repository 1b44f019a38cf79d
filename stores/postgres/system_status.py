"""The ledger and the billing as an operator sees them. Changes nothing."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.system_status import OpenIntent, PartitionState
from stores.postgres.engine import autocommit

# The instant of an intent whose token counts as forgotten is 1970 (RENEW): it was not opened before the last was done.
_PARTITIONS = text("""
    SELECT part.partition, part.epoch, part.generation, part.version, part.last_offset,
        coalesce(greatest(part.last_logged_at, part.idle_as_of), to_timestamp(0)) AS as_of,
        last.done_at, opened.first_offset AS open_first, opened.last_offset AS open_last, opened.renewals,
        CASE WHEN opened.intent_at IS NOT NULL THEN greatest(opened.intent_at, last.done_at) END AS intent_at
    FROM ledger_partitions AS part
    LEFT JOIN LATERAL (
        SELECT done_at FROM ledger_blocks AS block
        WHERE block.topic_id = part.topic_id AND block.partition = part.partition AND block.state = 'done'
        ORDER BY block.first_offset DESC LIMIT 1
    ) AS last ON true
    LEFT JOIN ledger_blocks AS opened ON opened.topic_id = part.topic_id AND opened.partition = part.partition
        AND opened.first_offset = part.last_offset + 1 AND opened.state = 'intent'
    WHERE part.topic_id = :topic_id ORDER BY part.partition
""")
_FAILED = text("SELECT code, count(*) AS periods FROM closing_failures GROUP BY code")


async def partition_states(engine: AsyncEngine, topic_id: str) -> list[PartitionState]:
    """Every partition of the topic, in order. Raises `Unavailable`."""
    async with autocommit(engine) as conn:
        rows = (await conn.execute(_PARTITIONS, {"topic_id": topic_id})).all()
    return [
        PartitionState(
            partition=row.partition,
            epoch=row.epoch,
            generation=row.generation,
            version=row.version,
            last_offset=row.last_offset,
            last_done_at=row.done_at,
            as_of=row.as_of,
            open_intent=None
            if row.intent_at is None
            else OpenIntent(
                first_offset=row.open_first,
                last_offset=row.open_last,
                intent_at=row.intent_at,
                renewals=row.renewals,
            ),
        )
        for row in rows
    ]


async def failed_periods(engine: AsyncEngine) -> dict[str, int]:
    """How many billing periods stand still, by code. Raises `Unavailable`."""
    async with autocommit(engine) as conn:
        return {row.code: row.periods for row in await conn.execute(_FAILED)}
