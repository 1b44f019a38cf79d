-- On a cluster, what readers read: all shards of each table. Blocks are written to one shard (protocol 20).
CREATE TABLE IF NOT EXISTS {database}.events_all{on_cluster} AS {database}.events
ENGINE = Distributed('{cluster}', '{database}', 'events');

CREATE TABLE IF NOT EXISTS {database}.usage_windows_all{on_cluster} AS {database}.usage_windows
ENGINE = Distributed('{cluster}', '{database}', 'usage_windows');

CREATE TABLE IF NOT EXISTS {database}.event_duplicates_all{on_cluster} AS {database}.event_duplicates
ENGINE = Distributed('{cluster}', '{database}', 'event_duplicates');

CREATE TABLE IF NOT EXISTS {database}.events_rejected_all{on_cluster} AS {database}.events_rejected
ENGINE = Distributed('{cluster}', '{database}', 'events_rejected');
