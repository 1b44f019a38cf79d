-- What a copy said, so that a look-up can tell whether it is what the first one said. Rows from before have `type` ''.
ALTER TABLE {database}.event_duplicates{on_cluster}
    ADD COLUMN IF NOT EXISTS type LowCardinality(String),
    ADD COLUMN IF NOT EXISTS customer String,
    ADD COLUMN IF NOT EXISTS time Nullable(DateTime64(3, 'UTC')),
    ADD COLUMN IF NOT EXISTS properties String CODEC(ZSTD(1));
