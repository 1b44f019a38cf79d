-- Every accepted event, once, with what it matched. `{...}` is filled in by the runner (stores/clickhouse/migrations.py).
-- protocol 6: block_day and ingested_at are the log-append time of the block's first record.
-- protocol 1: in_time refuses an insert that comes after its deadline, whatever became of the worker that sent it.
CREATE TABLE IF NOT EXISTS {database}.events{on_cluster}
(
    tenant LowCardinality(String),
    environment LowCardinality(String),
    source String,
    id String,
    type LowCardinality(String),
    customer String,
    customer_id String,
    time DateTime64(3, 'UTC'),
    received_at DateTime64(3, 'UTC'),
    logged_at DateTime64(3, 'UTC'),
    ingested_at DateTime64(3, 'UTC'),
    block_day Date,
    properties String CODEC(ZSTD(1)),
    identity FixedString(16),
    topic_id LowCardinality(String),
    partition UInt16,
    offset UInt64,
    `index` UInt32,
    first_offset UInt64,
    cut UInt64,
    version UInt64,
    evaluator UInt16,
    insert_before DateTime64(3, 'UTC'),
    matches Nested(
        meter LowCardinality(String),
        generation UInt32,
        value Nullable(Decimal(38, 12)),
        unique_key String,
        dimensions Array(String)
    ),
    issues Nested(meter LowCardinality(String), generation UInt32, code LowCardinality(String)),
    INDEX by_identity identity TYPE bloom_filter(0.001) GRANULARITY 4,
    INDEX by_offset offset TYPE minmax GRANULARITY 1,
    CONSTRAINT in_time CHECK insert_before > now64(3)
)
ENGINE = {engine:MergeTree}
PARTITION BY block_day
ORDER BY (tenant, environment, customer, time, partition, offset, index)
SETTINGS non_replicated_deduplication_window = {events_tokens}{replicated_tokens:events_tokens};
