"""Recounts: of rows by receipt hour, beside what the ledger says was written; of events, beside the windows."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from schemas.reconciliation import MeterDay, MeterSums
from schemas.scope import Scope
from stores.clickhouse.aggregates import epoch_ms
from stores.clickhouse.client import ClickhouseClient, Row

_MINUTE_MS = 60_000
_HOUR_MS = 3_600_000
_RANGE = (
    "topic_id = {topic_id:String} "
    "AND received_at >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') "
    "AND received_at < fromUnixTimestamp64Milli({end:Int64}, 'UTC') "
    "AND toInt64(`offset`) <= transform(partition, {partitions:Array(UInt16)}, {offsets:Array(Int64)}, toInt64(-1))"
)
_WHERE = f"tenant = {{tenant:String}} AND environment = {{environment:String}} AND {_RANGE}"
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
        **_parameters(topic_id, through, start, end),
    }
    found: dict[int, dict[str, int]] = {}
    for outcome, hour, counted in await _counted(client, "", _WHERE, parameters):
        found.setdefault(hour, {})[outcome] = counted
    return {hour: RowsOfHour(hour=hour, **counts) for hour, counts in found.items()}


async def rows_by_partition_and_hour(
    client: ClickhouseClient, topic_id: str, through: Mapping[int, int], start: datetime, end: datetime
) -> dict[tuple[int, int], RowsOfHour]:
    """(partition, receipt hour) -> rows of all tenants, of `[start, end)`, whole hours, up to the vector."""
    parameters = _parameters(topic_id, through, start, end)
    found: dict[tuple[int, int], dict[str, int]] = {}
    for outcome, partition, hour, counted in await _counted(client, "partition, ", _RANGE, parameters):
        found.setdefault((partition, hour), {})[outcome] = counted
    return {place: RowsOfHour(hour=place[1], **counts) for place, counts in found.items()}


async def _counted(client: ClickhouseClient, places: str, where: str, parameters: Mapping[str, Any]) -> list[Row]:
    """Rows of each table: its outcome, `places`, the hour of receipt as the ledger counts it, and how many."""
    halves = []
    for outcome, source in _TABLES.items():
        table, _, final = source.partition(" ")
        halves.append(
            f"SELECT '{outcome}' AS outcome, {places}intDiv(toUnixTimestamp64Milli(received_at), {_HOUR_MS}) AS hour, "
            f"count() AS counted FROM {client.reads(table)} {final} WHERE {where} GROUP BY {places}hour"
        )
    return await client.rows(" UNION ALL ".join(halves), parameters)


# What both sides add up to; the windows' own columns, and the same from the matches of events.
_SUMMED = {
    "matches": ("sum(matches)", "count()"),
    "values": ("sum(values)", "countIf(isNotNull(m.value))"),
    "total": ("sum(total)", "sum(toDecimal256(ifNull(m.value, toDecimal128(0, 12)), 12))"),
    "lowest": ("min(lowest)", "min(m.value)"),
    "highest": ("max(highest)", "max(m.value)"),
}
_PLACE = ("tenant", "environment", "meter_id", "meter_generation", "day")


async def meter_days(
    client: ClickhouseClient, start: datetime, end: datetime, cut: int, limit: int
) -> tuple[int, list[MeterDay]]:
    """How many (meter, day of event time) there are in `[start, end)`, widened to whole minutes, at cutoff `cut`; and those,
    up to `limit`, whose windows do not add up to their events. Memory grows with meters and days, not with events.
    """
    parameters = {
        "start": epoch_ms(start) // _MINUTE_MS * _MINUTE_MS,
        "end": -(-epoch_ms(end) // _MINUTE_MS) * _MINUTE_MS,
        "cut": cut,
        "limit": limit,
    }
    windows = ", ".join(f"{of_windows} AS w_{name}" for name, (of_windows, _) in _SUMMED.items())
    events = ", ".join(f"{of_events} AS e_{name}" for name, (_, of_events) in _SUMMED.items())
    differs = " OR ".join(f"NOT (w_{name} <=> e_{name})" for name in _SUMMED)
    place = ", ".join(_PLACE)
    sql = (
        f"SELECT {place}, {', '.join(f'w_{name}' for name in _SUMMED)}, {', '.join(f'e_{name}' for name in _SUMMED)}, "
        f"{differs} AS differs, count() OVER () AS compared FROM ("
        "SELECT tenant, environment, meter AS meter_id, generation AS meter_generation, toDate(minute) AS day, "
        f"{windows} FROM {client.reads('usage_windows')} "
        "WHERE minute >= toDateTime(intDiv({start:Int64}, 1000), 'UTC') "
        "AND minute < toDateTime(intDiv({end:Int64}, 1000), 'UTC') AND cut < {cut:UInt64} "
        f"GROUP BY {place}) AS w FULL JOIN ("
        "SELECT tenant, environment, m.meter AS meter_id, m.generation AS meter_generation, toDate(time) AS day, "
        f"{events} FROM {client.reads('events')} AS e ARRAY JOIN e.matches AS m "
        "WHERE time >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') "
        "AND time < fromUnixTimestamp64Milli({end:Int64}, 'UTC') AND cut < {cut:UInt64} "
        f"GROUP BY {place}) AS e USING ({place}) "
        f"ORDER BY differs DESC, {place} LIMIT {{limit:UInt32}}"
    )
    rows = await client.rows(sql, parameters)
    size = len(_SUMMED)
    found = [
        MeterDay(
            tenant=row[0],
            environment=row[1],
            meter_id=row[2],
            generation=row[3],
            day=str(row[4]),
            windows=MeterSums(*row[5 : 5 + size]),
            events=MeterSums(*row[5 + size : 5 + 2 * size]),
        )
        for row in rows
        if row[-2]
    ]
    return (rows[0][-1] if rows else 0), found


def _parameters(topic_id: str, through: Mapping[int, int], start: datetime, end: datetime) -> dict[str, Any]:
    return {
        "topic_id": topic_id,
        "partitions": list(through),
        "offsets": list(through.values()),
        "start": epoch_ms(start) // _HOUR_MS * _HOUR_MS,
        "end": -(-epoch_ms(end) // _HOUR_MS) * _HOUR_MS,
    }
