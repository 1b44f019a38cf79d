-- The same columns on the table that reads all shards.
ALTER TABLE {database}.event_duplicates_all{on_cluster}
    ADD COLUMN IF NOT EXISTS type LowCardinality(String),
    ADD COLUMN IF NOT EXISTS customer String,
    ADD COLUMN IF NOT EXISTS time Nullable(DateTime64(3, 'UTC')),
    ADD COLUMN IF NOT EXISTS properties String;
