"""Ranges of the ledger as the duplicate filter is rebuilt by: how many events were stored between which offsets."""

from datetime import datetime

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from stores.postgres.engine import autocommit


class StoredRange(msgspec.Struct, frozen=True, kw_only=True):
    """Whole ledger rows next to each other: `stored` events between two offsets, both included.

    Their records were logged between two instants; so were the first records of their blocks.
    """

    first_offset: int
    last_offset: int
    stored: int
    first_logged_at: datetime
    last_logged_at: datetime


# A range ends at a day's end, so that reading it needs one partition of `events`. Brokers' clocks may step back: the
# running maximum of the days ascends with the offsets all the same, so ranges never interleave. The bound on
# first_offset lets the primary key find the place.
_RANGES = text("""
    WITH rows AS (
        SELECT first_offset, last_offset, stored, first_logged_at, last_logged_at,
            max((first_logged_at AT TIME ZONE 'UTC')::date) OVER upwards AS day,
            floor((sum(stored) OVER upwards - stored) / :size) AS part
        FROM ledger_blocks
        WHERE topic_id = :topic_id AND partition = :partition AND state = 'done' AND stored > 0
            AND last_offset > :offset
            AND first_offset >= coalesce((
                SELECT max(below.first_offset) FROM ledger_blocks AS below
                WHERE below.topic_id = :topic_id AND below.partition = :partition AND below.first_offset <= :offset
            ), 0)
            AND (last_logged_at AT TIME ZONE 'UTC')::date >= (
                SELECT (last_logged_at AT TIME ZONE 'UTC')::date - CAST(:days AS integer) FROM ledger_partitions
                WHERE topic_id = :topic_id AND partition = :partition
            )
        WINDOW upwards AS (ORDER BY first_offset)
    )
    SELECT min(first_offset) AS first_offset, max(last_offset) AS last_offset,
        CAST(sum(stored) AS bigint) AS stored, min(first_logged_at) AS first_logged_at,
        max(last_logged_at) AS last_logged_at
    FROM rows GROUP BY day, part ORDER BY 1
""")


async def stored_ranges(
    engine: AsyncEngine, topic_id: str, partition: int, above: int, *, window_days: int, size: int
) -> list[StoredRange]:
    """The done blocks with records above an offset and within the window of the partition's log time, in order.

    protocol 21: what has left the window is not needed, and need not be in `events` any more. A range has about `size`
    events, or as many as one ledger row has. A row that stands for several blocks is one row here too.
    """
    arguments = {
        "topic_id": topic_id,
        "partition": partition,
        "offset": above,
        "days": window_days,
        "size": size,
    }
    async with autocommit(engine) as connection:
        rows = (await connection.execute(_RANGES, arguments)).all()
    return [
        StoredRange(
            first_offset=row.first_offset,
            last_offset=row.last_offset,
            stored=row.stored,
            first_logged_at=row.first_logged_at,
            last_logged_at=row.last_logged_at,
        )
        for row in rows
    ]
