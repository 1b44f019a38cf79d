"""The tables of the counting protocol: topics, the block ledger, the cut."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from stores.postgres.metadata import INSTANT, created, metadata

log_topics = Table(
    "log_topics",
    metadata,
    Column("name", Text, primary_key=True),
    Column("topic_id", Text, nullable=False),
    Column("partitions", Integer, nullable=False),
    created(),
)

ledger_partitions = Table(
    "ledger_partitions",
    metadata,
    Column("topic_id", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    Column("generation", BigInteger, nullable=False, server_default="0"),  # protocol 19: the group's generation
    Column("last_offset", BigInteger, nullable=False, server_default="-1"),  # of the last done block
    Column("open_last_offset", BigInteger),  # of the intent that is not done
    Column("version", BigInteger, nullable=False, server_default="0"),
    Column("idle_as_of", INSTANT),
    Column("last_logged_at", INSTANT),  # log-append time of the last done record
    PrimaryKeyConstraint("topic_id", "partition"),
)

ledger_blocks = Table(
    "ledger_blocks",
    metadata,
    Column("topic_id", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("first_offset", BigInteger, nullable=False),
    Column("last_offset", BigInteger, nullable=False),
    Column("shard", Integer, nullable=False, server_default="0"),
    Column("epoch", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("evaluator", Integer, nullable=False),
    Column("cut", BigInteger, nullable=False),
    Column("insert_before", INSTANT, nullable=False),
    Column("state", Text, nullable=False),
    Column("stored", BigInteger, nullable=False),
    Column("duplicate", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
    Column("forwarded", BigInteger, nullable=False),
    Column("counts", JSONB, nullable=False),  # [[tenant, environment, hour, stored, duplicate, rejected, forwarded]]
    Column("row_hash", LargeBinary, nullable=False),
    Column("max_event_at", INSTANT),
    Column("first_logged_at", INSTANT, nullable=False),
    Column("last_logged_at", INSTANT, nullable=False),
    Column("intent_at", INSTANT, nullable=False),
    Column("renewals", Integer, nullable=False, server_default="0"),
    Column("done_at", INSTANT),
    Column("blocks", BigInteger, nullable=False, server_default="1"),  # more than one: finished blocks, rolled up
    PrimaryKeyConstraint("topic_id", "partition", "first_offset"),
    CheckConstraint("state IN ('intent', 'done', 'gap', 'empty')", name="state"),
    Index("ix_ledger_blocks_done_at", "done_at"),
    Index("ix_ledger_blocks_open", "cut", postgresql_where=text("state = 'intent'")),
    Index("ix_ledger_blocks_cut", "topic_id", "partition", "cut", "first_offset"),
)

usage_cut = Table(
    "usage_cut",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("cut", BigInteger, nullable=False),
    Column("raised_at", INSTANT, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

usage_cuts = Table(
    "usage_cuts",
    metadata,
    Column("cut", BigInteger, primary_key=True, autoincrement=False),  # what was counted before raised_at is below it
    Column("raised_at", INSTANT, nullable=False),
    Index("ix_usage_cuts_raised_at", "raised_at"),
)

# Rejected events that were sent again: by the position at which they were rejected, as what, and for whom.
rejected_replays = Table(
    "rejected_replays",
    metadata,
    Column("topic_id", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("index", BigInteger, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("key_id", Text, nullable=False),  # of the API key that asked for it first
    created(),
    Column("replayed_at", INSTANT),  # the log had it; null: begun
    PrimaryKeyConstraint("topic_id", "partition", "offset", "index"),
)
