-- What was not stored, keyed by position: written after the block's insert and before `done`, so a repeat changes nothing.
CREATE TABLE IF NOT EXISTS {database}.event_duplicates{on_cluster}
(
    tenant LowCardinality(String),
    environment LowCardinality(String),
    source String,
    id String,
    identity FixedString(16),
    received_at DateTime64(3, 'UTC'),
    logged_at DateTime64(3, 'UTC'),
    topic_id LowCardinality(String),
    partition UInt16,
    offset UInt64,
    `index` UInt32,
    first_partition UInt16,
    first_offset UInt64,
    first_index UInt32,
    INDEX by_identity identity TYPE bloom_filter(0.001) GRANULARITY 4
)
ENGINE = {engine:ReplacingMergeTree}
PARTITION BY toYYYYMM(logged_at)
ORDER BY (tenant, environment, topic_id, partition, offset, index);

CREATE TABLE IF NOT EXISTS {database}.events_rejected{on_cluster}
(
    tenant LowCardinality(String),
    environment LowCardinality(String),
    source String,
    id String,
    code LowCardinality(String),
    message String,
    received_at DateTime64(3, 'UTC'),
    logged_at DateTime64(3, 'UTC'),
    topic_id LowCardinality(String),
    partition UInt16,
    offset UInt64,
    `index` UInt32,
    original String CODEC(ZSTD(1))
)
ENGINE = {engine:ReplacingMergeTree}
PARTITION BY toYYYYMM(logged_at)
ORDER BY (tenant, environment, topic_id, partition, offset, index);
