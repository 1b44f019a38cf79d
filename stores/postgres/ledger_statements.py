"""The statements of the ledger. Each is one round trip and, run by itself, one transaction: all of it or nothing.

Every step begins with the compare-and-set on the partition's row (protocol 14) in a CTE named `cas`; what else the step
writes is selected from it, so nothing is written when it finds no row. Under READ COMMITTED an UPDATE that waited for
another writer checks its WHERE again on the row it then finds, so two workers cannot both pass.
"""

from sqlalchemy import text

_BLOCK_COLUMNS = (
    "topic_id, partition, first_offset, last_offset, shard, epoch, version, evaluator, cut, insert_before, state,"
    " stored, duplicate, rejected, forwarded, counts, row_hash, max_event_at, first_logged_at, last_logged_at, intent_at"
)

# protocol 10: read under FOR SHARE in the intent's transaction; who raises the cut waits for us, or we for them.
_CUT = "usage_cut_now AS (SELECT cut FROM usage_cut WHERE id = 1 FOR SHARE)"

# Only an empty row may be in the place of a new one. Anything else breaks NOT NULL, and so the whole statement: the chain
# was broken (a restored backup?) and must not be repaired by overwriting.
_REPLACED = "CASE WHEN ledger_blocks.state = 'empty' THEN excluded.state END"

# protocol 1: the deadline comes from PostgreSQL's clock. now() is the statement's start: never later than the truth.
_NEW_BLOCK = f"""
    INSERT INTO ledger_blocks ({_BLOCK_COLUMNS})
    SELECT cas.topic_id, cas.partition, :first_offset, :last_offset, :shard, :epoch, :version, :evaluator,
        usage_cut_now.cut, now() + make_interval(secs => CAST(:deadline_s AS float8)), 'intent',
        :stored, :duplicate, :rejected, :forwarded, CAST(:counts AS jsonb), :row_hash, CAST(:max_event_at AS timestamptz),
        CAST(:first_logged_at AS timestamptz), CAST(:last_logged_at AS timestamptz), now()
    FROM cas, usage_cut_now
    ON CONFLICT (topic_id, partition, first_offset) DO UPDATE SET
        last_offset = excluded.last_offset, shard = excluded.shard, epoch = excluded.epoch,
        version = excluded.version, evaluator = excluded.evaluator, cut = excluded.cut,
        insert_before = excluded.insert_before, stored = excluded.stored, duplicate = excluded.duplicate,
        rejected = excluded.rejected, forwarded = excluded.forwarded, counts = excluded.counts,
        row_hash = excluded.row_hash, max_event_at = excluded.max_event_at,
        first_logged_at = excluded.first_logged_at, last_logged_at = excluded.last_logged_at,
        intent_at = excluded.intent_at, done_at = NULL,
        state = {_REPLACED}
    RETURNING cut, intent_at, insert_before
"""

# protocol 19: an older generation of the group cannot raise the epoch. But Kafka forgets a group that was away for days and
# counts from 1 again: a partition without a sign of life for an hour takes any generation. (A zombie that old is fenced
# by the epoch all the same; the generation only spares the owner a restart.) While a partition is being repaired nobody
# takes it over: the lock is held by the repair's session (ledger_repair.py).
TAKE_OVER = text("""
    UPDATE ledger_partitions SET epoch = epoch + 1, generation = :generation
    WHERE topic_id = :topic_id AND partition = :partition AND (
        generation <= :generation OR greatest(idle_as_of, last_logged_at) < now() - interval '1 hour'
    ) AND (:repairing OR pg_try_advisory_xact_lock_shared(hashtextextended(:repair, 0)))
    RETURNING topic_id, partition, epoch, generation, last_offset, version, idle_as_of
""")

BEING_REPAIRED = text("SELECT NOT pg_try_advisory_xact_lock_shared(hashtextextended(:repair, 0)) AS locked")

# protocol 8: no version older than the partition's last; protocol 14: epoch and chain in the same UPDATE.
WRITE_INTENT = text(f"""
    WITH cas AS (
        UPDATE ledger_partitions SET open_last_offset = :last_offset, version = :version
        WHERE topic_id = :topic_id AND partition = :partition AND epoch = :epoch
            AND last_offset = :before AND open_last_offset IS NULL AND version <= :version
        RETURNING topic_id, partition
    ), {_CUT}
    {_NEW_BLOCK}
""")

# protocol 1: a block whose token is forgotten (intent_at 1970, ledger_leases.py) gets a deadline by a lease only.
RENEW = text("""
    WITH cas AS (
        UPDATE ledger_partitions SET open_last_offset = open_last_offset
        WHERE topic_id = :topic_id AND partition = :partition AND epoch = :epoch
            AND last_offset = :before AND open_last_offset = :last_offset
        RETURNING topic_id, partition
    )
    UPDATE ledger_blocks AS block SET epoch = :epoch, renewals = renewals + 1,
        insert_before = greatest(insert_before, now() + make_interval(secs => CAST(:deadline_s AS float8)))
    FROM cas
    WHERE block.topic_id = cas.topic_id AND block.partition = cas.partition
        AND block.first_offset = :first_offset AND block.state = 'intent' AND block.intent_at > to_timestamp(0)
    RETURNING block.insert_before
""")

_DONE_BLOCK = """
    UPDATE ledger_blocks AS block SET state = 'done', done_at = now()
    FROM cas
    WHERE block.topic_id = cas.topic_id AND block.partition = cas.partition
        AND block.first_offset = :done_first_offset AND block.state = 'intent'
    RETURNING block.first_offset
"""

FINISH = text(f"""
    WITH cas AS (
        UPDATE ledger_partitions SET last_offset = :done_last_offset, open_last_offset = NULL,
            last_logged_at = greatest(last_logged_at, :done_last_logged_at)
        WHERE topic_id = :topic_id AND partition = :partition AND epoch = :epoch
            AND last_offset = :done_before AND open_last_offset = :done_last_offset
        RETURNING topic_id, partition
    )
    {_DONE_BLOCK}
""")

# The row goes from 'n open' to 'n done, n + 1 open' in one UPDATE: one compare-and-set for both steps.
FINISH_AND_INTEND = text(f"""
    WITH cas AS (
        UPDATE ledger_partitions SET last_offset = :done_last_offset, open_last_offset = :last_offset,
            version = :version, last_logged_at = greatest(last_logged_at, :done_last_logged_at)
        WHERE topic_id = :topic_id AND partition = :partition AND epoch = :epoch
            AND last_offset = :done_before AND open_last_offset = :done_last_offset AND version <= :version
        RETURNING topic_id, partition
    ), finished AS ({_DONE_BLOCK}), {_CUT}
    {_NEW_BLOCK}
""")

# protocol 4: a version taken over without a record. The row holds no offset: the next block of the partition, whose
# version is at least this one, begins at the same position and takes the row's place.
RECORD_EMPTY = text(f"""
    WITH cas AS (
        UPDATE ledger_partitions SET version = :version
        WHERE topic_id = :topic_id AND partition = :partition AND epoch = :epoch
            AND last_offset = :last_offset AND open_last_offset IS NULL AND version <= :version
        RETURNING topic_id, partition
    )
    INSERT INTO ledger_blocks ({_BLOCK_COLUMNS}, done_at)
    SELECT cas.topic_id, cas.partition, :first_offset, :last_offset, 0, :epoch, :version, :evaluator, usage_cut.cut,
        now(), 'empty', 0, 0, 0, 0, '[]'::jsonb, ''::bytea, NULL, now(), now(), now(), now()
    FROM cas, usage_cut WHERE usage_cut.id = 1
    ON CONFLICT (topic_id, partition, first_offset) DO UPDATE SET
        epoch = excluded.epoch, version = excluded.version, evaluator = excluded.evaluator, cut = excluded.cut,
        intent_at = excluded.intent_at, done_at = excluded.done_at, state = {_REPLACED}
    RETURNING first_offset
""")

# protocol 17: a gap that a fresh fetch confirmed is a row, so that the chain goes on and the hole can be seen.
RECORD_GAP = text(f"""
    WITH cas AS (
        UPDATE ledger_partitions SET last_offset = :last_offset
        WHERE topic_id = :topic_id AND partition = :partition AND epoch = :epoch
            AND last_offset = :before AND open_last_offset IS NULL
        RETURNING topic_id, partition, version
    )
    INSERT INTO ledger_blocks ({_BLOCK_COLUMNS}, done_at)
    SELECT cas.topic_id, cas.partition, :first_offset, :last_offset, 0, :epoch, cas.version, :evaluator, usage_cut.cut,
        now(), 'gap', 0, 0, 0, 0, '[]'::jsonb, ''::bytea, NULL, now(), now(), now(), now()
    FROM cas, usage_cut WHERE usage_cut.id = 1
    ON CONFLICT (topic_id, partition, first_offset) DO UPDATE SET
        last_offset = excluded.last_offset, epoch = excluded.epoch, version = excluded.version,
        evaluator = excluded.evaluator, cut = excluded.cut, intent_at = excluded.intent_at, done_at = excluded.done_at,
        state = {_REPLACED}
    RETURNING first_offset
""")

MARK_IDLE = text("""
    UPDATE ledger_partitions SET idle_as_of = greatest(idle_as_of, :as_of)
    WHERE topic_id = :topic_id AND partition = :partition AND epoch = :epoch
    RETURNING partition
""")

_SELECT_BLOCKS = (
    f"SELECT {_BLOCK_COLUMNS}, blocks FROM ledger_blocks WHERE topic_id = :topic_id AND partition = :partition"
)

OPEN_BLOCK = text(f"{_SELECT_BLOCKS} AND state = 'intent'")

BLOCK_AT = text(f"{_SELECT_BLOCKS} AND first_offset = :first_offset")

# Rejected events of the blocks behind the last one that had any other.
REJECTED_IN_A_ROW = text("""
    SELECT coalesce(sum(rejected), 0) AS rejected FROM ledger_blocks
    WHERE topic_id = :topic_id AND partition = :partition AND state = 'done' AND first_offset > coalesce((
        SELECT first_offset FROM ledger_blocks
        WHERE topic_id = :topic_id AND partition = :partition AND state = 'done'
            AND (stored > 0 OR duplicate > 0 OR forwarded > 0)
        ORDER BY first_offset DESC LIMIT 1
    ), -1)
""")
NEWEST_STORED = text(f"{_SELECT_BLOCKS} AND state = 'done' AND stored > 0 ORDER BY first_offset DESC LIMIT 1")

# The bound on first_offset lets the primary key find the place: no block begins before the one that holds `offset`.
BLOCKS_ABOVE = text(f"""
    {_SELECT_BLOCKS} AND state IN ('done', 'gap') AND last_offset > :offset
        AND first_offset >= coalesce((
            SELECT max(below.first_offset) FROM ledger_blocks AS below
            WHERE below.topic_id = :topic_id AND below.partition = :partition AND below.first_offset <= :offset
        ), 0)
    ORDER BY first_offset
""")

_SELECT_PARTITIONS = """
    SELECT topic_id, partition, epoch, generation, last_offset, version, idle_as_of FROM ledger_partitions
    WHERE topic_id = :topic_id
"""

PARTITIONS = text(f"{_SELECT_PARTITIONS} ORDER BY partition")

PARTITION = text(f"{_SELECT_PARTITIONS} AND partition = :partition")

# protocol 26: per partition what is done, or the instant at which it was seen to be at the end of the log.
WATERMARK = text("""
    SELECT min(coalesce(greatest(last_logged_at, idle_as_of), to_timestamp(0))) AS as_of, count(*) AS partitions
    FROM ledger_partitions WHERE topic_id = :topic_id
""")

# An event is logged and its block done after its receipt, so blocks done before the range (less the skew of clocks)
# hold nothing of it. There is no such bound above: a replayed record keeps its receipt time.
COUNTS = text("""
    SELECT CAST(count ->> 2 AS bigint) AS hour, sum(CAST(count ->> 3 AS bigint)) AS stored,
        sum(CAST(count ->> 4 AS bigint)) AS duplicate, sum(CAST(count ->> 5 AS bigint)) AS rejected,
        sum(CAST(count ->> 6 AS bigint)) AS forwarded
    FROM ledger_blocks, jsonb_array_elements(counts) AS count
    WHERE topic_id = :topic_id AND state = 'done' AND done_at >= :done_from
        AND count ->> 0 = :tenant AND count ->> 1 = :environment
        AND CAST(count ->> 2 AS bigint) >= :start_hour AND CAST(count ->> 2 AS bigint) < :end_hour
    GROUP BY 1 ORDER BY 1
""")
