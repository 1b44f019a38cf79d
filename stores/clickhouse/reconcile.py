"""Rows per receipt hour, to be compared with what the ledger says was written (GET /v1/reconciliation)."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from schemas.scope import Scope
from stores.clickhouse.aggregates import epoch_ms
from stores.clickhouse.client import ClickhouseClient

_HOUR_MS = 3_600_000
_WHERE = (
    "tenant = {tenant:String} AND environment = {environment:String} AND topic_id = {topic_id:String} "
    "AND received_at >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') "
    "AND received_at < fromUnixTimestamp64Milli({end:Int64}, 'UTC') "
    "AND toInt64(`offset`) <= transform(partition, {partitions:Array(UInt16)}, {offsets:Array(Int64)}, toInt64(-1))"
)
_TABLES = {"stored": "events", "duplicate": "event_duplicates FINAL", "rejected": "events_rejected FINAL"}


class RowsOfHour(Struct, frozen=True, kw_only=True):
    """What the tables hold of one receipt hour (epoch hours)."""

    hour: int
    stored: int = 0
    duplicate: int = 0
    rejected: int = 0


async def rows_by_hour(
    client: ClickhouseClient, scope: Scope, topic_id: str, through: Mapping[int, int], start: datetime, end: datetime
) -> dict[int, RowsOfHour]:
    """Hour -> rows of `[start, end)`, whole hours, of positions up to the vector (partition -> last done offset)."""
    parameters = {
        "tenant": scope.tenant,
        "environment": scope.environment,
        "topic_id": topic_id,
        "partitions": list(through),
        "offsets": list(through.values()),
        "start": epoch_ms(start) // _HOUR_MS * _HOUR_MS,
        "end": -(-epoch_ms(end) // _HOUR_MS) * _HOUR_MS,
    }
    halves = []
    for outcome, source in _TABLES.items():
        table, _, final = source.partition(" ")
        # Grouped by the hour of receipt, as the ledger's counts are.
        halves.append(
            f"SELECT '{outcome}' AS outcome, intDiv(toUnixTimestamp64Milli(received_at), {_HOUR_MS}) AS hour, "
            f"count() AS counted FROM {client.reads(table)} {final} WHERE {_WHERE} GROUP BY hour"
        )
    found: dict[int, dict[str, int]] = {}
    for outcome, hour, counted in await client.rows(" UNION ALL ".join(halves), parameters):
        found.setdefault(hour, {})[outcome] = counted
    return {hour: RowsOfHour(hour=hour, **counts) for hour, counts in found.items()}
