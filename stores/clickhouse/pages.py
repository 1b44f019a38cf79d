"""Pages of rows that stand at positions of the log, newest first, and the conditions that such lists share."""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from domain.errors import Invalid
from schemas.event_records import EventPosition
from schemas.scope import Scope
from stores.clickhouse.aggregates import epoch_ms
from stores.clickhouse.client import ClickhouseClient, Row

IN_SCOPE = "tenant = {tenant:String} AND environment = {environment:String}"
POSITION = "topic_id, partition, `offset`, `index`"

_FINAL_TABLES = frozenset({"event_duplicates", "events_rejected"})


class Conditions:
    """The conditions of one statement, with their parameters; all must hold."""

    def __init__(self, scope: Scope) -> None:
        self.where = [IN_SCOPE]
        self.parameters: dict[str, Any] = {"tenant": scope.tenant, "environment": scope.environment}

    def equal(self, column: str, value: str | int | None, kind: str = "String") -> None:
        if value is not None:
            self.where.append(f"{column} = {{{column}:{kind}}}")
            self.parameters[column] = value

    def among(self, expression: str, name: str, values: Sequence[str] | None) -> None:
        if values is not None:
            self.where.append(f"{expression} IN {{{name}:Array(String)}}")
            self.parameters[name] = list(values)

    def between(self, column: str, start: datetime | None, end: datetime | None) -> None:
        for name, sign, at in (("start", ">=", start), ("end", "<", end)):
            if at is not None:
                self.where.append(f"{column} {sign} fromUnixTimestamp64Milli({{{name}:Int64}}, 'UTC')")
                self.parameters[name] = epoch_ms(at)

    @property
    def text(self) -> str:
        return " AND ".join(self.where)


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    """The last row of a page: the next page begins after it."""

    ms: int
    topic_id: str
    partition: int
    offset: int
    index: int


async def positioned_rows(
    client: ClickhouseClient, table: str, columns: str, where: str, end: str, parameters: dict[str, Any]
) -> list[Row]:
    # A repeat of an unfinished block may have written a row of some tables twice; FINAL shows it once.
    source = f"{client.reads(table)}{' FINAL' if table in _FINAL_TABLES else ''}"
    return await client.rows(f"SELECT {columns} FROM {source} WHERE {where} {end}", parameters)


async def page_of_rows(
    client: ClickhouseClient,
    table: str,
    columns: str,
    instant: str,
    conditions: Conditions,
    limit: int,
    cursor: str | None,
) -> tuple[list[Row], str | None]:
    """A page by descending `instant`, then position, and the cursor of the next. `columns` end with `POSITION`.

    Raises Invalid `cursor_invalid`.
    """
    where, parameters = list(conditions.where), dict(conditions.parameters)
    if cursor is not None:
        after = _decode_cursor(cursor)
        where.append(
            f"(toUnixTimestamp64Milli({instant}), topic_id, toInt64(partition), toInt64(`offset`), toInt64(`index`))"
            " < ({after_ms:Int64}, {after_topic:String}, {after_partition:Int64}, {after_offset:Int64}, "
            "{after_index:Int64})"
        )
        where.append(f"{instant} <= fromUnixTimestamp64Milli({{after_ms:Int64}}, 'UTC')")
        parameters |= {
            "after_ms": after.ms,
            "after_topic": after.topic_id,
            "after_partition": after.partition,
            "after_offset": after.offset,
            "after_index": after.index,
        }
    end = f"ORDER BY {instant} DESC, topic_id DESC, partition DESC, `offset` DESC, `index` DESC LIMIT {limit + 1}"
    columns = f"{columns}, toUnixTimestamp64Milli({instant}) AS page_ms"
    rows = await positioned_rows(client, table, columns, " AND ".join(where), end, parameters)
    following = None
    if len(rows) > limit:
        rows = rows[:limit]
        topic_id, partition, offset, index, ms = rows[-1][-5:]
        following = _encode_cursor(_Cursor(ms, topic_id, partition, offset, index))
    return [row[:-1] for row in rows], following


def cursor_after(at: datetime, position: EventPosition) -> str:
    """The cursor of the page that begins after this row, where a page is not taken to its end."""
    return _encode_cursor(_Cursor(epoch_ms(at), position.topic_id, position.partition, position.offset, position.index))


def read_position(row: Row) -> EventPosition:
    topic_id, partition, offset, index = row
    return EventPosition(topic_id=topic_id, partition=partition, offset=offset, index=index)


def in_utc(at: datetime) -> datetime:
    return at.astimezone(UTC)


def _encode_cursor(cursor: _Cursor) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).rstrip(b"=").decode()


def _decode_cursor(text: str) -> _Cursor:
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return msgspec.json.decode(raw, type=_Cursor)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise Invalid("cursor_invalid", "this cursor is none that a list has answered with") from None
