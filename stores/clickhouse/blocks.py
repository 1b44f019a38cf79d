"""A block as columns, and its one atomic insert (protocol 1, 2, 6, 27).

The worker collects events in `StoredColumns`, encodes them against the table's schema before the intent, and inserts the
batch with what the ledger decided (cut, deadline, token). Doing the same again is a no-op in `events` and completes
`usage_windows`, as long as the token is remembered.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa

from domain.constant_columns import is_constant
from schemas.blocks import StoredColumns
from stores.clickhouse.client import ClickhouseClient, ClickhouseError
from stores.clickhouse.tokens import MAX_BLOCK_BYTES, MAX_BLOCK_MATCHES

VIOLATED_CONSTRAINT = 469
EVENTS = "events"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_INSTANT = pa.timestamp("ms", tz="UTC")
_TEXTS = pa.list_(pa.string())
_QUANTITY = pa.decimal128(38, 12)

# Column, Arrow type, ClickHouse type. `cut` and `insert_before` are the ledger's and come last, at the insert.
_COLUMNS: tuple[tuple[str, pa.DataType, str], ...] = (
    ("tenant", pa.string(), "LowCardinality(String)"),
    ("environment", pa.string(), "LowCardinality(String)"),
    ("source", pa.string(), "String"),
    ("id", pa.string(), "String"),
    ("type", pa.string(), "LowCardinality(String)"),
    ("customer", pa.string(), "String"),
    ("customer_id", pa.string(), "String"),
    ("time", _INSTANT, "DateTime64(3, 'UTC')"),
    ("received_at", _INSTANT, "DateTime64(3, 'UTC')"),
    ("logged_at", _INSTANT, "DateTime64(3, 'UTC')"),
    ("ingested_at", _INSTANT, "DateTime64(3, 'UTC')"),
    ("block_day", pa.date32(), "Date"),
    ("properties", pa.binary(), "String"),
    ("identity", pa.binary(16), "FixedString(16)"),
    ("topic_id", pa.string(), "LowCardinality(String)"),
    ("partition", pa.uint16(), "UInt16"),
    ("offset", pa.uint64(), "UInt64"),
    ("index", pa.uint32(), "UInt32"),
    ("first_offset", pa.uint64(), "UInt64"),
    ("version", pa.uint64(), "UInt64"),
    ("evaluator", pa.uint16(), "UInt16"),
    ("matches.meter", _TEXTS, "Array(LowCardinality(String))"),
    ("matches.generation", pa.list_(pa.uint32()), "Array(UInt32)"),
    ("matches.value", pa.list_(_QUANTITY), "Array(Nullable(Decimal(38, 12)))"),
    ("matches.unique_key", _TEXTS, "Array(String)"),
    ("matches.dimensions", pa.list_(_TEXTS), "Array(Array(String))"),
    ("issues.meter", _TEXTS, "Array(LowCardinality(String))"),
    ("issues.generation", pa.list_(pa.uint32()), "Array(UInt32)"),
    ("issues.code", _TEXTS, "Array(LowCardinality(String))"),
)
_LEDGER_COLUMNS: tuple[tuple[str, pa.DataType, str], ...] = (
    ("cut", pa.uint64(), "UInt64"),
    ("insert_before", _INSTANT, "DateTime64(3, 'UTC')"),
)
BLOCK_SCHEMA = pa.schema([pa.field(name, kind) for name, kind, _ in _COLUMNS])
_TABLE_TYPES = {name: table_type for name, _, table_type in (*_COLUMNS, *_LEDGER_COLUMNS)}


class DeadlinePassed(Exception):  # noqa: N818 - it is no failure: the intent must be renewed
    """The table refused the block because `insert_before` has passed; nothing was written (protocol 1)."""


class BlockTooLarge(ValueError):  # noqa: N818
    """More than one insert may hold as one block for the server (protocol 2): split the range before the intent."""


class BlockConstants(msgspec.Struct, frozen=True, kw_only=True):
    """What all rows of a block share. `first_logged_at_ms` is the log-append time of its first record (protocol 6)."""

    topic_id: str
    partition: int
    first_offset: int
    last_offset: int
    version: int
    evaluator: int
    first_logged_at_ms: int

    @property
    def token(self) -> str:
        """The block's deduplication token: its range, and nothing that a second attempt could change."""
        return f"{self.topic_id}/{self.partition}/{self.first_offset}-{self.last_offset}"


def encode_block(columns: StoredColumns, constants: BlockConstants) -> pa.RecordBatch:
    """The block as one record batch of `BLOCK_SCHEMA`. A function of its arguments alone: encode before the intent.

    Raises pyarrow.ArrowInvalid for a value that its column cannot hold (protocol 27: then no intent is written), and
    BlockTooLarge.
    """
    count = len(columns)
    if len(columns.match_meter) > MAX_BLOCK_MATCHES:
        raise BlockTooLarge(f"{len(columns.match_meter)} matches in one block, at most {MAX_BLOCK_MATCHES}")
    logged_at = _EPOCH + constants.first_logged_at_ms * _MILLISECOND
    constant = {
        "ingested_at": logged_at,
        "block_day": logged_at.date(),
        "topic_id": constants.topic_id,
        "partition": constants.partition,
        "first_offset": constants.first_offset,
        "version": constants.version,
        "evaluator": constants.evaluator,
    }
    own = _event_arrays(columns)
    arrays = [own[name] if name in own else _repeat(constant[name], kind, count) for name, kind, _ in _COLUMNS]
    batch = pa.RecordBatch.from_arrays(arrays, schema=BLOCK_SCHEMA)
    batch.validate()
    if batch.nbytes > MAX_BLOCK_BYTES:
        raise BlockTooLarge(f"{batch.nbytes} bytes in one block, at most {MAX_BLOCK_BYTES}")
    return batch


def _event_arrays(columns: StoredColumns) -> dict[str, pa.Array]:
    arrays = {
        name: _column(getattr(columns, name), kind)
        for name, kind, _ in _COLUMNS
        if name in {"tenant", "environment", "source", "id", "type", "customer", "customer_id"}
        or name in {"properties", "identity", "offset", "index"}
    }
    for name in ("time", "received_at", "logged_at"):
        arrays[name] = pa.array(getattr(columns, f"{name}_ms"), pa.int64()).cast(_INSTANT)
    match_ends = pa.array(columns.match_ends, pa.int32())
    issue_ends = pa.array(columns.issue_ends, pa.int32())
    arrays |= {
        "matches.meter": _lists(match_ends, columns.match_meter, pa.string()),
        "matches.generation": _lists(match_ends, columns.match_generation, pa.uint32()),
        "matches.value": pa.ListArray.from_arrays(match_ends, _quantities(columns.match_value)),
        "matches.unique_key": _lists(match_ends, columns.match_unique_key, pa.string()),
        "matches.dimensions": _lists(match_ends, columns.match_dimensions, _TEXTS),
        "issues.meter": _lists(issue_ends, columns.issue_meter, pa.string()),
        "issues.generation": _lists(issue_ends, columns.issue_generation, pa.uint32()),
        "issues.code": _lists(issue_ends, columns.issue_code, pa.string()),
    }
    return arrays


def _lists(ends: pa.Array, values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    return pa.ListArray.from_arrays(ends, _column(values, kind))


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if is_constant(values):
        return _repeat(values[0], kind, len(values))
    return pa.array(values, kind)


def _quantities(values: Sequence[int | Decimal | None]) -> pa.Array:
    # Whole numbers take a third of the time as words. pyarrow would cut a Decimal off without a sound: none may be there.
    if set(map(type, values)) <= {int, type(None)}:
        return pa.array(values, pa.int64()).cast(_QUANTITY)
    return pa.array(values, _QUANTITY)


def _repeat(value: Any, kind: pa.DataType, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, kind), count)


def event_years(columns: StoredColumns) -> int:
    """How many years (UTC) the block's event times touch; above MAX_BLOCK_YEARS it must be split (protocol 2)."""
    return len({(_EPOCH + ms * _MILLISECOND).year for ms in {ms // 86_400_000 * 86_400_000 for ms in columns.time_ms}})


def insert_settings(token: str, rows: int, deadline_s: float) -> dict[str, Any]:
    """The settings under which an insert is one block, one part a partition, and a no-op the second time."""
    whole = max(rows + 1, 1_048_576)
    return {
        "insert_deduplication_token": token,
        "insert_deduplicate": 1,
        "deduplicate_blocks_in_dependent_materialized_views": 1,
        "async_insert": 0,  # protocol 2: 1 is the default of current servers
        "max_insert_threads": 1,
        "max_insert_block_size": whole,
        "max_block_size": whole,
        "min_insert_block_size_rows": 0,
        "min_insert_block_size_bytes": 0,
        "max_execution_time": max(deadline_s, 0.001),
    }


async def insert_block(
    client: ClickhouseClient,
    batch: pa.RecordBatch,
    *,
    token: str,
    cut: int,
    insert_before: datetime,
    deadline_s: float,
    shard: int = 0,
    table: str = EVENTS,
) -> None:
    """The block's one insert. Idempotent by `token` (`BlockConstants.token`) within the token memory.

    `cut` and `insert_before` come from the ledger row. Raises DeadlinePassed when the table refused it as too late:
    nothing was written by this attempt. Raises Unavailable when the outcome is unknown: insert the same again.
    An empty batch writes nothing.
    """
    if not batch.num_rows:
        return
    ledger = (cut, insert_before)
    for (name, kind, _), value in zip(_LEDGER_COLUMNS, ledger, strict=True):
        batch = batch.append_column(pa.field(name, kind), _repeat(value, kind, batch.num_rows))
    settings = insert_settings(token, batch.num_rows, deadline_s)
    if client.cluster:
        settings["insert_quorum"] = "auto"
        if client.shards > 1:
            # protocol 20: the whole block goes to the shard that the intent names, and the answer waits for it.
            table = f"{table}_all"
            settings |= {"insert_shard_id": shard + 1, "distributed_foreground_insert": 1}
    try:
        await client.insert_batch(table, batch, **settings)
    except ClickhouseError as error:
        if error.code == VIOLATED_CONSTRAINT:
            raise DeadlinePassed(f"block {token} was to be inserted before {insert_before.isoformat()}") from error
        raise


async def schema_differences(client: ClickhouseClient) -> list[str]:
    """How `events` differs from what blocks are encoded for; empty when it does not. Ask at start (protocol 27)."""
    rows = await client.rows(
        "SELECT name, type FROM system.columns WHERE database = {database:String} AND table = 'events'",
        {"database": client.database},
    )
    found: dict[str, str] = {row[0]: row[1] for row in rows}
    names = sorted(set(found) | set(_TABLE_TYPES))
    return [
        f"{name}: {found.get(name, 'missing')} instead of {_TABLE_TYPES.get(name, 'nothing')}"
        for name in names
        if found.get(name) != _TABLE_TYPES.get(name)
    ]
