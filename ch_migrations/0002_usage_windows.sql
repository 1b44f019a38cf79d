-- Minute aggregates per meter, customer reference as sent and dimensions; `cut` last in the key, so that any aggregate
-- can be read as it was known at a cutoff (protocol 10). Partitioned by year: protocol 2.
CREATE TABLE IF NOT EXISTS {database}.usage_windows{on_cluster}
(
    tenant LowCardinality(String),
    environment LowCardinality(String),
    meter LowCardinality(String),
    generation UInt32,
    customer String,
    minute DateTime('UTC'),
    dimensions Array(String),
    cut UInt64,
    matches SimpleAggregateFunction(sum, UInt64),
    values SimpleAggregateFunction(sum, UInt64),
    total SimpleAggregateFunction(sum, Decimal(76, 12)),
    lowest SimpleAggregateFunction(min, Nullable(Decimal(38, 12))),
    highest SimpleAggregateFunction(max, Nullable(Decimal(38, 12))),
    latest SimpleAggregateFunction(max, Tuple(DateTime64(3, 'UTC'), DateTime64(3, 'UTC'), UInt16, UInt64, UInt32, Decimal(38, 12))),
    uniques AggregateFunction(uniqExact, String)
)
ENGINE = {engine:AggregatingMergeTree}
PARTITION BY toYear(minute)
ORDER BY (tenant, environment, meter, generation, customer, minute, dimensions, cut)
SETTINGS non_replicated_deduplication_window = {windows_tokens}{replicated_tokens:windows_tokens};
