"""What a cutoff holds: up to which instant every event is below it."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from stores.postgres.engine import autocommit

# Cuts grow along positions (protocol 10), so a partition's blocks below the cut are those before its first block that is
# not. What was logged before that one is below the cut; without such a block, all that is done is. Found by the index of
# cuts; a roll-up never crosses one. Rows of gaps and empty blocks hold no record: their instants are not those of the log.
_REACHES = text("""
    SELECT asked.cut,
        min(coalesce(later.first_logged_at, greatest(part.last_logged_at, part.idle_as_of), to_timestamp(0))) AS as_of,
        count(later.first_logged_at) AS passed, (SELECT raised_at FROM usage_cut WHERE id = 1) AS raised_at
    FROM unnest(CAST(:cuts AS bigint[])) AS asked (cut)
    CROSS JOIN ledger_partitions AS part
    LEFT JOIN LATERAL (
        SELECT block.first_logged_at FROM ledger_blocks AS block
        WHERE block.topic_id = part.topic_id AND block.partition = part.partition AND block.cut >= asked.cut
            AND block.state IN ('intent', 'done')
        ORDER BY block.cut, block.first_offset LIMIT 1
    ) AS later ON true
    WHERE part.topic_id = :topic_id
    GROUP BY asked.cut
""")


class Reach(Struct, frozen=True, kw_only=True):
    """Every event answered 202 before `as_of` is below the cut, once it is complete; `is_passed`: others were counted
    since. `raised_at` is when the newest cut was raised.
    """

    as_of: datetime
    is_passed: bool
    raised_at: datetime


async def reach_of(engine: AsyncEngine, topic_id: str, cut: int) -> Reach:
    """How far cutoff `cut` reaches. Ask when it is complete (`Cuts.wait_complete`). Raises `Unavailable`."""
    return (await reaches_of(engine, topic_id, [cut]))[cut]


async def reaches_of(engine: AsyncEngine, topic_id: str, cuts: Sequence[int]) -> dict[int, Reach]:
    """`reach_of` for many cuts: one statement. One that is not complete reaches as far as it will once it is."""
    async with autocommit(engine) as conn:
        rows = (await conn.execute(_REACHES, {"topic_id": topic_id, "cuts": list(cuts)})).all()
    if cuts and not rows:
        raise ValueError(f"the ledger knows no topic {topic_id}: run `meterstream migrate`")
    return {row.cut: Reach(as_of=row.as_of, is_passed=row.passed > 0, raised_at=row.raised_at) for row in rows}
