"""All settings, read once by the mains: `METERSTREAM_<GROUP>_<FIELD>`, every field with its unit in its name."""

from collections.abc import Mapping
from typing import Any, get_type_hints

import msgspec

PREFIX = "METERSTREAM_"


class SettingsError(ValueError):
    """A setting that is missing, unknown or of the wrong type: says which, and what would be right."""


class Secret(str):
    """A text that prints as `***`; use `.reveal()` where the value itself is needed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "***"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def reveal(self) -> str:
        return "".join(self)


class PostgresSettings(msgspec.Struct, frozen=True, kw_only=True):
    url: Secret = Secret("postgresql://meterstream@127.0.0.1:5432/meterstream")
    """Where contracts, money and the ledger are."""
    pool_size: int = 8
    """Connections a process keeps at most."""
    connect_timeout_s: float = 5.0
    statement_timeout_s: float = 30.0
    """PostgreSQL ends a statement that runs longer; one that is not even ended counts as unanswered a little later."""
    lock_timeout_s: float = 10.0
    """PostgreSQL ends a statement that waits longer for a lock."""
    outbox_poll_s: float = 0.5
    """The outbox is looked at this often besides when it says that it has something, and its lock asked for."""


class ClickhouseSettings(msgspec.Struct, frozen=True, kw_only=True):
    url: Secret = Secret("http://127.0.0.1:8123")
    """HTTP interface, with user and password where there are any."""
    database: str = "default"
    cluster: str = ""
    """Name of a cluster: tables are then Replicated and read through Distributed ones."""
    shards: int = 1
    """Shards a block may go to: partition modulo shards (protocol 20)."""
    connect_timeout_s: float = 5.0
    query_timeout_s: float = 30.0
    """ClickHouse ends a query that runs longer; one that is not answered at all is given up a little later."""


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True):
    bootstrap: str = "127.0.0.1:9092"
    """host:port, comma separated."""
    raw_partitions: int = 4
    """Partitions of usage.raw. Fixed for a topic generation (protocol 5)."""
    balance_partitions: int = 4
    """Partitions of usage.deltas, contracts.changed and entitlements.state (protocol 22)."""
    replication_factor: int = 1
    request_timeout_s: float = 10.0
    """The broker counts as away when it has not acknowledged within this."""
    retry_wait_max_s: float = 5.0
    """Whoever follows a topic or sends the outbox tries again after waits that double up to this."""


class TemporalSettings(msgspec.Struct, frozen=True, kw_only=True):
    address: str = "127.0.0.1:7233"
    namespace: str = "default"
    task_queue: str = "meterstream"
    connect_timeout_s: float = 10.0
    """After this a server that does not take a connection counts as away."""


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True):
    host: str = "127.0.0.1"
    port: int = 8080
    body_max_bytes: int = 16 << 20
    """Largest body, decoded."""
    inflight_max_bytes: int = 128 << 20
    """Decoded bytes of ingest requests being worked on at once; beyond it 429 (answered before reading)."""
    events_max: int = 10_000
    """Events a request."""
    record_max_bytes: int = 512 << 10
    """A record of usage.raw is split at this."""
    stale_after_s: float = 10.0
    """A check whose `as_of` is older is marked `stale`."""
    stop_within_s: float = 5.0
    """After SIGTERM what is being worked on may take this and the broker's time-out."""
    key_cache_s: float = 2.0
    """A revoked key stops working within this, as long as PostgreSQL answers."""
    key_stale_max_s: float = 900.0
    """While PostgreSQL is away a key that was valid is taken for valid for so long after its last look-up."""
    key_lookup_timeout_s: float = 5.0
    """A request whose key is not known is answered 503 when its look-up takes longer."""
    key_renewal_wait_s: float = 1.0
    """A request of a known key waits for its look-up at most so long; then the key counts as it was known."""
    renders_at_once: int = 2
    """Documents of invoices that a process makes at a time, each on a core of its own."""
    font_folders: str = ""
    """Folders with fonts for signs that ours have no letters for, comma separated."""


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    data_dir: str = "data/worker"
    """Local state, one directory a process: rebuilt when lost."""
    health_host: str = "127.0.0.1"
    health_port: int = 0
    """0: the role's default (ingest 8081, balances 8082, notifications 8083)."""
    session_timeout_s: float = 12.0
    heartbeat_interval_s: float = 3.0
    retry_budget_s: float = 90.0
    """How long a worker waits in place for a service that is away before it exits unacknowledged."""
    buffer_max_bytes: int = 64 << 20
    """Records read ahead: while more waits for its turn, because a service is away, nothing is read. A partition of
    usage.raw has its share of it."""
    stall_margin_s: float = 60.0
    """Offsets that stand still for this much longer than the retry budget, with work left, make a worker exit."""
    recovery_max_s: float = 240.0
    """A recovery of local state that takes longer makes a worker exit and begin it anew."""
    stop_within_s: float = 4.0
    """A worker that was told to stop, or has failed, ends itself after this; what is not done is unacknowledged."""
    commit_interval_s: float = 1.0
    """How often acknowledged offsets are committed to Kafka: how much a successor reads again."""
    group_request_timeout_s: float = 90.0
    """A request of the consumer group that is not answered within this fails. Not below the rebalance timeout."""
    rebalance_timeout_s: float = 60.0
    """A member that has not rejoined within this after a rebalance began loses its partitions."""
    max_poll_interval_s: float = 300.0
    """A worker that has not asked for records for so long leaves the group. Above three retry budgets."""
    changelog_timeout_s: float = 60.0
    """A record of a table's changelog that is not acknowledged within this ends the worker."""
    filter_memory_bytes: int = 128 << 20
    """What is kept in memory of a worker's duplicate filters: half of it RocksDB's, half to say at once what is new."""
    filter_open_files: int = 64
    """Files that a partition's duplicate filter keeps open."""


class IngestSettings(msgspec.Struct, frozen=True, kw_only=True):
    block_max_events: int = 15_000
    """About: counted by bytes until the block is decoded. Larger blocks make fewer parts and later numbers."""
    parallel_inserts: int = 2
    """Blocks of a worker that ClickHouse works on at once."""
    block_max_bytes: int = 64 << 20
    block_max_age_s: float = 0.1
    """A block closes this long after it was opened, up to five times as long where it fills fast. See `block_age_s`."""
    insert_deadline_s: float = 30.0
    """D of protocol 1: the table refuses a block's insert after this."""
    token_horizon_s: float = 300.0
    """H of protocol 1: an intent younger than this is completed under its token."""
    clock_skew_s: float = 1.0
    """Largest difference of clocks between PostgreSQL, ClickHouse and the workers (protocol 1: below D/4)."""
    refused_retry_s: float = 30.0
    """A partition that was refused at its take-over (a store was restored) is tried again this often."""
    idle_after_s: float = 1.0
    """A partition without records says this often how far it is."""
    stuck_after_s: float = 5.0
    """Records that the log has and that do not come for so long are asked for directly (protocol 16)."""
    filter_range_events: int = 250_000
    """A filter being rebuilt reads, sorts and verifies about so many identities at once, the first before it serves."""
    reject_streak_max: int = 100_000
    """Events rejected in a row before the partition stops: the brake."""


class BalancesSettings(msgspec.Struct, frozen=True, kw_only=True):
    flush_interval_s: float = 0.05
    """State and freshness records leave at most this often a partition."""
    reconcile_interval_s: float = 5.0
    """Pause between comparisons of counters with the usage; 0 compares nothing."""
    reconcile_batch: int = 200
    """Customers compared at a time."""


class ClosingSettings(msgspec.Struct, frozen=True, kw_only=True):
    schedule_interval_s: int = 60
    batch_size: int = 200
    """So many periods are billed in one transaction, from usage that is read in two statements."""
    cut_min_interval_s: int = 60
    """The global cut is raised at most this often (0 in tests)."""
    cut_interval_s: int = 3600
    """And at least this often, at whole multiples: what usage can be read at later."""
    grace_s: int = 0
    """How long after a period's end it is closed at the earliest."""
    complete_within_s: float = 60.0
    """A closing waits so long for the open blocks of its cutoff before it is tried again."""
    late_interval_s: int = 86_400
    """Subscriptions that have ended are looked at for late usage so often, while it is accepted."""
    schedule_paused: bool = False
    """The closing schedule is created paused: somebody unpauses it."""


class LedgerSettings(msgspec.Struct, frozen=True, kw_only=True):
    roll_up_after_s: int = 86_400
    """Rows of blocks that were done longer ago become one an hour. Far above the token horizon."""
    roll_up_interval_s: int = 3600


class TemporalWorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    health_host: str = "127.0.0.1"
    health_port: int = 8084
    retry_wait_max_s: float = 5.0
    """While Temporal is away it is tried again after waits that double up to this."""
    stop_within_s: float = 5.0
    """After SIGTERM activities may take this; what is cut off is repeated."""


class HealthSettings(msgspec.Struct, frozen=True, kw_only=True):
    probe_timeout_s: float = 2.0
    """A question that serves readiness or a shown lag, and no work, is given up after this."""


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    level: str = "INFO"
    json: bool = False
    repeat_after_s: float = 10.0
    """What a library says again and again while a server is away is written once in so long, with its number."""


_BLOCKS_A_SECOND = 40
_AGE_WORTH_IT_S = 0.25


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a process can be told. Groups are prefixes: `postgres.url` is METERSTREAM_POSTGRES_URL."""

    postgres: PostgresSettings = PostgresSettings()
    clickhouse: ClickhouseSettings = ClickhouseSettings()
    kafka: KafkaSettings = KafkaSettings()
    temporal: TemporalSettings = TemporalSettings()
    api: ApiSettings = ApiSettings()
    worker: WorkerSettings = WorkerSettings()
    ingest: IngestSettings = IngestSettings()
    balances: BalancesSettings = BalancesSettings()
    closing: ClosingSettings = ClosingSettings()
    ledger: LedgerSettings = LedgerSettings()
    temporal_worker: TemporalWorkerSettings = TemporalWorkerSettings()
    health: HealthSettings = HealthSettings()
    log: LogSettings = LogSettings()

    @property
    def block_age_s(self) -> float:
        """How long a block that fills slowly stays open. Every insert costs ClickHouse some 25 ms of a core besides its
        rows, so all partitions together make about 40 a second, as long as none waits longer than it is worth.
        """
        return max(self.ingest.block_max_age_s, min(self.kafka.raw_partitions / _BLOCKS_A_SECOND, _AGE_WORTH_IT_S))


# Names of the set-up around us (cache directory) that are no settings of a process.
RESERVED_NAMES = frozenset({"METERSTREAM_CACHE_DIR"})


def setting_names() -> dict[str, tuple[str, str, Any]]:
    """Every environment name: (group, field, type)."""
    names: dict[str, tuple[str, str, Any]] = {}
    for group, group_type in get_type_hints(Settings).items():
        for field, field_type in get_type_hints(group_type).items():
            names[f"{PREFIX}{group}_{field}".upper()] = (group, field, field_type)
    return names


def _convert(name: str, text: str, kind: Any) -> Any:
    if kind is Secret:
        return Secret(text)
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{name}: {error} (got {text!r})") from error


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Settings from the environment given. Unknown METERSTREAM_* names are an error, so a typo cannot be a default."""
    names = setting_names()
    given: dict[str, dict[str, Any]] = {}
    for name, text in environ.items():
        if not name.startswith(PREFIX) or name in RESERVED_NAMES:
            continue
        if name not in names:
            raise SettingsError(f"{name} is no setting; docs/settings.md lists those there are")
        group, field, kind = names[name]
        given.setdefault(group, {})[field] = _convert(name, text, kind)
    groups = {group: kind(**given.get(group, {})) for group, kind in get_type_hints(Settings).items()}
    return Settings(**groups)
