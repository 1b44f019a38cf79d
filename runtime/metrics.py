"""Every metric name there is, in one typed list: what a dashboard or an alarm may rely on.

Labels have few values by construction: never a tenant, a customer or an id. No secret ever is a label or a value.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

REGISTRY = CollectorRegistry()
CONTENT_TYPE = "text/plain; version=0.0.4"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# --- api ------------------------------------------------------------------------------------------------------------
ingest_events_accepted = Counter(
    "meterstream_ingest_events_accepted_total", "Events answered as accepted: the log has them.", registry=REGISTRY
)
ingest_events_rejected = Counter(
    "meterstream_ingest_events_rejected_total", "Events refused, by code.", ["code"], registry=REGISTRY
)
ingest_events_replayed = Counter(
    "meterstream_ingest_events_replayed_total", "Rejected events sent again, and in the log.", registry=REGISTRY
)
ingest_requests = Counter(
    "meterstream_ingest_requests_total", "Ingest requests by status.", ["status"], registry=REGISTRY
)
ingest_records = Counter("meterstream_ingest_records_total", "Records of usage.raw acknowledged.", registry=REGISTRY)
ingest_inflight_bytes = Gauge(
    "meterstream_ingest_inflight_bytes", "Bytes reserved by ingest requests being worked on.", registry=REGISTRY
)
ingest_request_seconds = Histogram(
    "meterstream_ingest_request_seconds",
    "From the first byte read to the answer, acknowledgement included.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
api_errors = Counter("meterstream_api_errors_total", "Answers that are problems, by code.", ["code"], registry=REGISTRY)
api_stale_keys = Counter(
    "meterstream_api_stale_keys_total",
    "Requests served by a key as it was last known, because keys cannot be looked up now.",
    registry=REGISTRY,
)
api_catalog_version = Gauge(
    "meterstream_api_catalog_version", "Version of the catalog that the API judges events by.", registry=REGISTRY
)

# --- ingest worker ----------------------------------------------------------------------------------------------------
worker_events = Counter(
    "meterstream_worker_events_total", "Events of done blocks, by outcome.", ["outcome"], registry=REGISTRY
)
worker_blocks = Counter("meterstream_worker_blocks_total", "Blocks done.", registry=REGISTRY)
worker_block_seconds = Histogram(
    "meterstream_worker_block_seconds",
    "From a block's first record to its acknowledgement.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
worker_lag_records = Gauge(
    "meterstream_worker_lag_records",
    "Records of the log that are not done, by partition.",
    ["partition"],
    registry=REGISTRY,
)
worker_partition_stopped = Gauge(
    "meterstream_worker_partition_stopped",
    "1 for a partition that the brake has stopped: too many events in a row were rejected.",
    ["partition"],
    registry=REGISTRY,
)
worker_gaps = Counter(
    "meterstream_worker_gaps_total", "Gaps in the log that a fresh read confirmed.", registry=REGISTRY
)
worker_waiting = Gauge(
    "meterstream_worker_waiting",
    "Steps that wait in place for a service that is away, by service.",
    ["service"],
    registry=REGISTRY,
)
worker_filter_absent = Gauge(
    "meterstream_worker_filter_absent_identities",
    "Identities that a duplicate filter being rebuilt lacks, by partition: copies of them are looked up in ClickHouse.",
    ["partition"],
    registry=REGISTRY,
)
worker_filter_lookups = Counter(
    "meterstream_worker_filter_lookups_total",
    "Identities looked up in ClickHouse, since the filter being rebuilt lacked a part.",
    registry=REGISTRY,
)
worker_filters_discarded = Counter(
    "meterstream_worker_filters_discarded_total",
    "Duplicate filters that were damaged, of another release or of another topic at opening, and are rebuilt.",
    registry=REGISTRY,
)
balances_pending = Gauge(
    "meterstream_balances_pending_customers",
    "Customers with counters that are still to be read from the usage, by balance partition.",
    ["partition"],
    registry=REGISTRY,
)
balances_read = Counter(
    "meterstream_balances_counters_read_total", "Counters that were read from the usage.", registry=REGISTRY
)
balances_compared = Counter(
    "meterstream_balances_compared_total", "Counters that were compared with the usage.", registry=REGISTRY
)
balances_difference = Gauge(
    "meterstream_balances_difference",
    "Counters that the usage contradicted when they were compared last: always 0, or it is an alarm.",
    registry=REGISTRY,
)
balances_outlived = Counter(
    "meterstream_balances_outlived_total",
    "Records that a former owner wrote late, after which the owner wrote its newer ones again.",
    registry=REGISTRY,
)
balances_mended = Counter(
    "meterstream_balances_mended_total",
    "Partitions whose balances were read anew, because state or deltas had been lost.",
    registry=REGISTRY,
)
threshold_crossings = Counter(
    "meterstream_threshold_crossings_total", "Entitlement thresholds crossed.", registry=REGISTRY
)

# --- closing ----------------------------------------------------------------------------------------------------------
closing_invoices = Counter("meterstream_closing_invoices_total", "Invoices of closed periods.", registry=REGISTRY)
ledger_rolled_up = Counter(
    "meterstream_ledger_rolled_up_total",
    "Rows that the ledger has less of since they were rolled up.",
    registry=REGISTRY,
)
closing_failures = Counter(
    "meterstream_closing_failures_total",
    "Periods that could not be closed, by code; `recount_differs` is an alarm: windows and events disagree.",
    ["code"],
    registry=REGISTRY,
)


def exposition() -> bytes:
    """All metrics of this process in the Prometheus text format (`CONTENT_TYPE`)."""
    return generate_latest(REGISTRY)
