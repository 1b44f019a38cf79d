"""Rolling finished ledger rows up by the hour, so that the ledger grows with hours and not with blocks.

What a row stands for stays what it was: a contiguous range of one partition with one cut, version, evaluator and shard.
So a cutoff, a take-over of a version and every count of an hour read the same as before (protocol 4, 8, 10).
"""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from stores.postgres.engine import autocommit, transaction

# protocol 3: deltas follow `done` and a successor repeats those of the last blocks, each with its own range. A worker that
# cannot send them exits within its retry budget, so what is so much older than the partition's newest block was sent.
DELTAS_SENT_AFTER = timedelta(hours=1)
# Whoever reads back what a row stands for holds about this many events at once.
STORED_A_ROW = 1_000_000
ROWS_A_SLICE = 200_000

_SLICE = text("""
    SELECT topic_id, partition, date_trunc('hour', last_logged_at) AS hour, min(first_offset) AS first_offset,
        max(first_offset) AS last_first_offset, count(*) AS held, max(done_at) AS newest
    FROM (
        SELECT topic_id, partition, last_logged_at, first_offset, done_at FROM ledger_blocks
        WHERE done_at > :after AND done_at < :before AND state = 'done' AND blocks = 1
        ORDER BY done_at LIMIT :limit
    ) AS old
    GROUP BY topic_id, partition, hour ORDER BY hour, topic_id, partition
""")

# Rows are taken FOR UPDATE, and each condition holds of the row as it is then: of two at once, the second finds nothing
# left to do. Workers touch only the newest rows, which are never among these.
_ROLL_UP = text("""
    WITH held AS MATERIALIZED (
        SELECT * FROM ledger_blocks
        WHERE topic_id = :topic_id AND partition = :partition AND first_offset BETWEEN :first_offset AND :last_first_offset
            AND last_logged_at >= :hour AND last_logged_at < :hour_end AND state = 'done' AND blocks = 1
            AND done_at < :before AND done_at < (
                SELECT newest.done_at FROM ledger_blocks AS newest
                WHERE newest.topic_id = :topic_id AND newest.partition = :partition AND newest.state = 'done'
                ORDER BY newest.first_offset DESC LIMIT 1
            ) - make_interval(secs => :sent_after_s)
        ORDER BY first_offset FOR UPDATE
    ), compared AS (
        SELECT *, (first_offset, cut, version, evaluator, shard) IS NOT DISTINCT FROM
            (lag(last_offset) OVER w + 1, lag(cut) OVER w, lag(version) OVER w, lag(evaluator) OVER w, lag(shard) OVER w)
            AS follows
        FROM held WINDOW w AS (ORDER BY first_offset)
    ), runs AS (
        SELECT *, count(*) FILTER (WHERE NOT follows) OVER (ORDER BY first_offset) AS run FROM compared
    ), parts AS (
        SELECT *, div(sum(stored) OVER (PARTITION BY run ORDER BY first_offset), :stored_a_row) AS chunk FROM runs
    ), merged AS (
        SELECT run, chunk, count(*) AS blocks, min(first_offset) AS first_offset, max(last_offset) AS last_offset,
            max(epoch) AS epoch, max(insert_before) AS insert_before, sum(stored) AS stored, sum(duplicate) AS duplicate,
            sum(rejected) AS rejected, sum(forwarded) AS forwarded, max(max_event_at) AS max_event_at,
            sha256(string_agg(row_hash, ''::bytea ORDER BY first_offset)) AS row_hash,
            min(first_logged_at) AS first_logged_at, max(last_logged_at) AS last_logged_at,
            min(intent_at) AS intent_at, max(done_at) AS done_at, sum(renewals) AS renewals
        FROM parts GROUP BY run, chunk HAVING count(*) > 1
    ), summed AS (
        SELECT run, chunk, count ->> 0 AS tenant, count ->> 1 AS environment, CAST(count ->> 2 AS bigint) AS hour,
            sum(CAST(count ->> 3 AS bigint)) AS stored, sum(CAST(count ->> 4 AS bigint)) AS duplicate,
            sum(CAST(count ->> 5 AS bigint)) AS rejected, sum(CAST(count ->> 6 AS bigint)) AS forwarded
        FROM parts CROSS JOIN LATERAL jsonb_array_elements(counts) AS count GROUP BY 1, 2, 3, 4, 5
    ), counted AS (
        SELECT run, chunk, jsonb_agg(
            jsonb_build_array(tenant, environment, hour, stored, duplicate, rejected, forwarded)
            ORDER BY tenant, environment, hour
        ) AS counts
        FROM summed GROUP BY run, chunk
    ), gone AS (
        DELETE FROM ledger_blocks AS block USING parts JOIN merged USING (run, chunk)
        WHERE block.topic_id = :topic_id AND block.partition = :partition
            AND block.first_offset = parts.first_offset AND parts.first_offset <> merged.first_offset
    )
    UPDATE ledger_blocks AS block SET last_offset = merged.last_offset, blocks = merged.blocks, epoch = merged.epoch,
        insert_before = merged.insert_before, stored = merged.stored, duplicate = merged.duplicate,
        rejected = merged.rejected, forwarded = merged.forwarded, counts = coalesce(counted.counts, '[]'::jsonb),
        row_hash = merged.row_hash, max_event_at = merged.max_event_at, first_logged_at = merged.first_logged_at,
        last_logged_at = merged.last_logged_at, intent_at = merged.intent_at, done_at = merged.done_at,
        renewals = merged.renewals
    FROM merged LEFT JOIN counted USING (run, chunk)
    WHERE block.topic_id = :topic_id AND block.partition = :partition AND block.first_offset = merged.first_offset
    RETURNING merged.blocks
""")


class RolledUp(Struct, frozen=True, kw_only=True):
    """`blocks` rows became `rows`."""

    blocks: int = 0
    rows: int = 0


async def roll_up(engine: AsyncEngine, before: datetime, rows_a_slice: int = ROWS_A_SLICE) -> AsyncIterator[RolledUp]:
    """Merge the rows of blocks that were done before `before`, one transaction a partition and hour of log time; yields
    after each.

    Safe to repeat, to interrupt and to run twice at once: what is rolled up already is left alone. A row then stands for
    at most about `STORED_A_ROW` events of one hour. Its hash is the SHA-256 of its blocks' hashes in their order.
    Raises `Unavailable`.
    """
    after = datetime.min.replace(tzinfo=before.tzinfo)
    while True:
        arguments = {"after": after, "before": before, "limit": rows_a_slice}
        async with autocommit(engine) as connection:
            hours = (await connection.execute(_SLICE, arguments)).all()
        for hour in hours:
            if hour.held > 1:
                place = {
                    "topic_id": hour.topic_id,
                    "partition": hour.partition,
                    "first_offset": hour.first_offset,
                    "last_first_offset": hour.last_first_offset,
                    "hour": hour.hour,
                    "hour_end": hour.hour + timedelta(hours=1),
                    "before": before,
                    "sent_after_s": DELTAS_SENT_AFTER.total_seconds(),
                    "stored_a_row": STORED_A_ROW,
                }
                async with transaction(engine) as connection:
                    made = (await connection.execute(_ROLL_UP, place)).all()
                yield RolledUp(blocks=sum(row.blocks for row in made), rows=len(made))
        if sum(hour.held for hour in hours) < rows_a_slice:
            return
        after = max(hour.newest for hour in hours)
