"""Single events: lists, newest first, and what became of one. For people; nothing is counted from here."""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from domain.copies import EventBody, differing_fields
from domain.errors import Invalid
from domain.events import decode_properties
from domain.identity import event_identity
from schemas.event_records import (
    DuplicateEvent,
    EventFate,
    EventIssue,
    EventMatch,
    EventPosition,
    RefusedEvent,
    StoredEvent,
)
from schemas.scope import Scope
from stores.clickhouse.aggregates import epoch_ms
from stores.clickhouse.client import ClickhouseClient, Row

_SCOPE = "tenant = {tenant:String} AND environment = {environment:String}"
_POSITION = "topic_id, partition, `offset`, `index`"
_STORED = (
    "id, source, type, customer, customer_id, time, received_at, logged_at, properties, cut, matches.meter, "
    "matches.generation, matches.value, matches.unique_key, matches.dimensions, issues.meter, issues.generation, "
    f"issues.code, {_POSITION}"
)
_REFUSED = f"source, id, code, message, received_at, logged_at, toValidUTF8(original), {_POSITION}"
_DUPLICATE = (
    "source, id, received_at, logged_at, first_partition, first_offset, first_index, type, customer, time, properties, "
    f"{_POSITION}"
)
# Copies and refusals of one identity that a look-up shows at most.
MAX_COPIES = 100


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events: all conditions hold. `references` are all texts that name the customer; `[start, end)`; `cut` is the
    cutoff: those of later blocks were not known then (protocol 10).
    """

    references: tuple[str, ...] | None = None
    type: str | None = None
    id: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    cut: int | None = None


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    """The last row of a page: the next page begins after it."""

    ms: int
    topic_id: str
    partition: int
    offset: int
    index: int


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    items: list[StoredEvent]
    next_cursor: str | None


class RefusedPage(msgspec.Struct, frozen=True, kw_only=True):
    items: list[RefusedEvent]
    next_cursor: str | None


class EventStore:
    """Reads; changes nothing."""

    def __init__(self, client: ClickhouseClient) -> None:
        self._client = client

    async def stored(self, scope: Scope, wanted: EventFilter, *, limit: int, cursor: str | None) -> EventPage:
        """Accepted events by descending event time. Raises Invalid `cursor_invalid`."""
        where, parameters = _conditions(scope, wanted)
        rows, following = await self._page("events", _STORED, "time", where, parameters, limit, cursor)
        return EventPage(items=[_stored(row) for row in rows], next_cursor=following)

    async def refused(
        self,
        scope: Scope,
        *,
        code: str | None,
        start: datetime | None,
        end: datetime | None,
        limit: int,
        cursor: str | None,
    ) -> RefusedPage:
        """Refused events by descending log time. Raises Invalid `cursor_invalid`."""
        where, parameters = [_SCOPE], {"tenant": scope.tenant, "environment": scope.environment}
        if code is not None:
            where.append("code = {code:String}")
            parameters["code"] = code
        _range(where, parameters, "logged_at", start, end)
        rows, following = await self._page("events_rejected", _REFUSED, "logged_at", where, parameters, limit, cursor)
        return RefusedPage(items=[_refused(row) for row in rows], next_cursor=following)

    async def fate(self, scope: Scope, source: str, event_id: str) -> EventFate | None:
        """What became of the event with this source and id; None when it never reached the log."""
        parameters = {
            "tenant": scope.tenant,
            "environment": scope.environment,
            "identity": event_identity(scope.tenant, scope.environment, source, event_id).hex(),
            "source": source,
            "id": event_id,
            "limit": MAX_COPIES,
        }
        by_identity = f"{_SCOPE} AND identity = unhex({{identity:String}})"
        end = "ORDER BY logged_at, partition, `offset`, `index` LIMIT {limit:UInt32}"
        stored = await self._rows("events", _STORED, by_identity, end, parameters)
        copies = await self._rows("event_duplicates", _DUPLICATE, by_identity, end, parameters, final=True)
        by_name = f"{_SCOPE} AND source = {{source:String}} AND id = {{id:String}}"
        refusals = await self._rows("events_rejected", _REFUSED, by_name, end, parameters, final=True)
        if not (stored or copies or refusals):
            return None
        first = _stored(stored[0]) if stored else None
        return EventFate(
            source=source,
            id=event_id,
            status="accepted" if stored else "duplicate" if copies else "rejected",
            event=first,
            duplicates=tuple(_duplicate(row, first) for row in copies),
            rejections=tuple(_refused(row) for row in refusals),
        )

    async def _rows(
        self, table: str, columns: str, where: str, end: str, parameters: dict[str, Any], *, final: bool = False
    ) -> list[Row]:
        # A repeat of an unfinished block may have written a row of these tables twice; FINAL shows it once.
        source = f"{self._client.reads(table)}{' FINAL' if final else ''}"
        return await self._client.rows(f"SELECT {columns} FROM {source} WHERE {where} {end}", parameters)

    async def _page(
        self,
        table: str,
        columns: str,
        instant: str,
        where: Sequence[str],
        parameters: dict[str, Any],
        limit: int,
        cursor: str | None,
    ) -> tuple[list[Row], str | None]:
        conditions = list(where)
        if cursor is not None:
            after = _decode_cursor(cursor)
            conditions.append(
                f"(toUnixTimestamp64Milli({instant}), topic_id, toInt64(partition), toInt64(`offset`), toInt64(`index`))"
                " < ({after_ms:Int64}, {after_topic:String}, {after_partition:Int64}, {after_offset:Int64}, "
                "{after_index:Int64})"
            )
            conditions.append(f"{instant} <= fromUnixTimestamp64Milli({{after_ms:Int64}}, 'UTC')")
            parameters |= {
                "after_ms": after.ms,
                "after_topic": after.topic_id,
                "after_partition": after.partition,
                "after_offset": after.offset,
                "after_index": after.index,
            }
        end = f"ORDER BY {instant} DESC, topic_id DESC, partition DESC, `offset` DESC, `index` DESC LIMIT {limit + 1}"
        rows = await self._rows(
            table,
            f"{columns}, toUnixTimestamp64Milli({instant}) AS page_ms",
            " AND ".join(conditions),
            end,
            parameters,
            final=table != "events",
        )
        following = None
        if len(rows) > limit:
            rows = rows[:limit]
            topic_id, partition, offset, index, ms = rows[-1][-5:]
            following = _encode_cursor(_Cursor(ms, topic_id, partition, offset, index))
        return [row[:-1] for row in rows], following


def _conditions(scope: Scope, wanted: EventFilter) -> tuple[list[str], dict[str, Any]]:
    where = [_SCOPE]
    parameters: dict[str, Any] = {"tenant": scope.tenant, "environment": scope.environment}
    if wanted.references is not None:
        where.append("customer IN {references:Array(String)}")
        parameters["references"] = list(wanted.references)
    for name, value in (("type", wanted.type), ("id", wanted.id)):
        if value is not None:
            where.append(f"{name} = {{{name}:String}}")
            parameters[name] = value
    if wanted.cut is not None:
        where.append("cut < {cut:UInt64}")
        parameters["cut"] = wanted.cut
    _range(where, parameters, "time", wanted.start, wanted.end)
    return where, parameters


def _range(
    where: list[str], parameters: dict[str, Any], column: str, start: datetime | None, end: datetime | None
) -> None:
    for name, sign, at in (("start", ">=", start), ("end", "<", end)):
        if at is not None:
            where.append(f"{column} {sign} fromUnixTimestamp64Milli({{{name}:Int64}}, 'UTC')")
            parameters[name] = epoch_ms(at)


def _encode_cursor(cursor: _Cursor) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).rstrip(b"=").decode()


def _decode_cursor(text: str) -> _Cursor:
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return msgspec.json.decode(raw, type=_Cursor)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise Invalid("cursor_invalid", "this cursor is none that a list has answered with") from None


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC)


def _position(row: Row) -> EventPosition:
    topic_id, partition, offset, index = row
    return EventPosition(topic_id=topic_id, partition=partition, offset=offset, index=index)


def _stored(row: Row) -> StoredEvent:
    meters, generations, values, keys, dimensions = row[10:15]
    issues = zip(*row[15:18], strict=True)
    return StoredEvent(
        id=row[0],
        source=row[1],
        type=row[2],
        customer=row[3],
        customer_id=row[4] or None,
        time=_utc(row[5]),
        received_at=_utc(row[6]),
        logged_at=_utc(row[7]),
        properties=msgspec.Raw(row[8].encode()),
        cut=row[9],
        matches=tuple(
            EventMatch(
                meter_id=meter, generation=generation, value=value, unique_key=key or None, dimensions=tuple(names)
            )
            for meter, generation, value, key, names in zip(meters, generations, values, keys, dimensions, strict=True)
        ),
        issues=tuple(
            EventIssue(meter_id=meter, generation=generation, code=code) for meter, generation, code in issues
        ),
        position=_position(row[18:22]),
    )


def _refused(row: Row) -> RefusedEvent:
    source, event_id, code, message, received_at, logged_at, original = row[:7]
    return RefusedEvent(
        source=source,
        id=event_id,
        code=code,
        message=message,
        received_at=_utc(received_at),
        logged_at=_utc(logged_at),
        original=original,
        position=_position(row[7:11]),
    )


def _duplicate(row: Row, first: StoredEvent | None) -> DuplicateEvent:
    source, event_id, received_at, logged_at, *place = row[:7]
    event_type, customer, time, properties = row[7:11]
    position = _position(row[11:15])
    copy = DuplicateEvent(
        source=source,
        id=event_id,
        received_at=_utc(received_at),
        logged_at=_utc(logged_at),
        position=position,
        first=_position((position.topic_id, *place)),
        type=event_type,
        customer=customer,
        time=None if time is None else _utc(time),
        properties=msgspec.Raw(properties.encode()) if properties else None,
    )
    if first is None or copy.properties is None:
        return copy
    differs = differing_fields(_body(first), _body(copy))
    return msgspec.structs.replace(copy, conflict=bool(differs), differs=differs)


def _body(event: StoredEvent | DuplicateEvent) -> EventBody:
    # What is stored says no longer whether a time was sent: a time that is the receipt itself was none.
    time = None if event.time == event.received_at else event.time
    properties = decode_properties(bytes(event.properties or b"{}"))
    return EventBody(type=event.type, customer=event.customer, time=time, properties=properties)
