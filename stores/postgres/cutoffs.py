"""What a cutoff holds: up to which instant every event is below it."""

from datetime import datetime

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from stores.postgres.engine import autocommit

# Cuts grow along positions (protocol 10), so a partition's blocks below the cut are those up to the last of them. What
# was logged before the first block behind that one is below the cut; without such a block, all that is done is.
# Rows of gaps and empty blocks hold no record: their instants are not those of the log.
_REACH = text("""
    SELECT min(coalesce(later.first_logged_at, greatest(part.last_logged_at, part.idle_as_of), to_timestamp(0))) AS as_of,
        count(*) AS partitions, count(later.first_logged_at) AS passed,
        (SELECT raised_at FROM usage_cut WHERE id = 1) AS raised_at
    FROM ledger_partitions AS part
    LEFT JOIN LATERAL (
        SELECT block.first_logged_at FROM ledger_blocks AS block
        WHERE block.topic_id = part.topic_id AND block.partition = part.partition AND block.state IN ('intent', 'done')
            AND block.first_offset > coalesce((
                SELECT below.first_offset FROM ledger_blocks AS below
                WHERE below.topic_id = part.topic_id AND below.partition = part.partition AND below.cut < :cut
                ORDER BY below.first_offset DESC LIMIT 1
            ), -1)
        ORDER BY block.first_offset LIMIT 1
    ) AS later ON true
    WHERE part.topic_id = :topic_id
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
    async with autocommit(engine) as conn:
        row = (await conn.execute(_REACH, {"topic_id": topic_id, "cut": cut})).one()
    if not row.partitions:
        raise ValueError(f"the ledger knows no topic {topic_id}: run `meterstream migrate`")
    return Reach(as_of=row.as_of, is_passed=row.passed > 0, raised_at=row.raised_at)
