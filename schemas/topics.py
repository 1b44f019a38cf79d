"""Names of the topics, and how each must be set up. `meterstream migrate` creates them and refuses differing ones."""

import msgspec

USAGE_RAW = "usage.raw"
USAGE_DELTAS = "usage.deltas"
USAGE_REJECTED = "usage.rejected"
CATALOG_CHANGED = "catalog.changed"
CONTRACTS_CHANGED = "contracts.changed"
ENTITLEMENTS_STATE = "entitlements.state"
ENTITLEMENTS_THRESHOLDS = "entitlements.thresholds"

# Kafka headers of a `usage.raw` record (values are UTF-8 text).
HEADER_TENANT = "tenant"
HEADER_ENVIRONMENT = "environment"
HEADER_RECEIVED_AT_MS = "received_at_ms"
HEADER_FORMAT = "format"
HEADER_VERSION = "version"  # catalog version at which the API accepted the record
FORMAT = b"1"

MEBIBYTE = 1 << 20
HOUR_MS = 3_600_000


class TopicSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A topic and its settings; `partitions=None` takes the deployment's number of partitions for its role."""

    name: str
    partitions: int | None = None
    config: dict[str, str] = {}


TOPICS: tuple[TopicSpec, ...] = (
    # protocol 6: block day and receipt come from the log, so the log's clock must be the broker's.
    TopicSpec(
        name=USAGE_RAW,
        config={
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(16 * MEBIBYTE),
            # Foreign producers compress by codecs that the worker does not know: the broker undoes it.
            "compression.type": "uncompressed",
        },
    ),
    # A balances worker that was away goes on at its last block: the topic must reach back further than any absence.
    TopicSpec(
        name=USAGE_DELTAS, config={"max.message.bytes": str(16 * MEBIBYTE), "retention.ms": str(90 * 24 * HOUR_MS)}
    ),
    TopicSpec(name=USAGE_REJECTED, config={"max.message.bytes": str(20 * MEBIBYTE), "retention.ms": "-1"}),
    TopicSpec(
        name=CATALOG_CHANGED, partitions=1, config={"retention.ms": "-1", "max.message.bytes": str(4 * MEBIBYTE)}
    ),
    # protocol 9: the compaction lag exceeds the longest pause of a worker, so the greatest version is still there.
    TopicSpec(
        name=CONTRACTS_CHANGED,
        config={
            "cleanup.policy": "compact",
            "min.compaction.lag.ms": str(HOUR_MS),
            "max.message.bytes": str(4 * MEBIBYTE),
        },
    ),
    TopicSpec(
        name=ENTITLEMENTS_STATE,
        config={
            "cleanup.policy": "compact",
            "min.compaction.lag.ms": str(HOUR_MS),
            "max.message.bytes": str(4 * MEBIBYTE),
        },
    ),
    TopicSpec(name=ENTITLEMENTS_THRESHOLDS),
)

# One Faust app id a role: the consumer group, and the prefix of its changelog topics.
APP_INGEST = "meterstream-ingest"
APP_BALANCES = "meterstream-balances"
APP_NOTIFICATIONS = "meterstream-notifications"
BALANCES_TABLE = "balances"
BALANCES_CHANGELOG = f"{APP_BALANCES}-{BALANCES_TABLE}-changelog"
