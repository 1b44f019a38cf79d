"""Single events: lists, newest first, and what became of one. For people; nothing is counted from here."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from domain.copies import EventBody, differing_fields
from domain.events import decode_properties
from domain.identity import event_identity
from schemas.event_records import (
    DuplicateEvent,
    EventFate,
    EventIssue,
    EventMatch,
    EventPosition,
    StoredEvent,
)
from schemas.scope import Scope
from stores.clickhouse.client import ClickhouseClient, Row
from stores.clickhouse.pages import (
    IN_SCOPE,
    POSITION,
    Conditions,
    in_utc,
    page_of_rows,
    positioned_rows,
    read_position,
)
from stores.clickhouse.rejected import REFUSED, read_refused

_STORED = (
    "id, source, type, customer, customer_id, time, received_at, logged_at, properties, cut, matches.meter, "
    "matches.generation, matches.value, matches.unique_key, matches.dimensions, issues.meter, issues.generation, "
    f"issues.code, {POSITION}"
)
_DUPLICATE = (
    "source, id, received_at, logged_at, first_partition, first_offset, first_index, type, customer, time, properties, "
    f"{POSITION}"
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


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    items: list[StoredEvent]
    next_cursor: str | None


class EventStore:
    """Reads; changes nothing."""

    def __init__(self, client: ClickhouseClient) -> None:
        self._client = client

    async def stored(self, scope: Scope, wanted: EventFilter, *, limit: int, cursor: str | None) -> EventPage:
        """Accepted events by descending event time. Raises Invalid `cursor_invalid`."""
        conditions = _conditions(scope, wanted)
        rows, following = await page_of_rows(self._client, "events", _STORED, "time", conditions, limit, cursor)
        return EventPage(items=[_stored(row) for row in rows], next_cursor=following)

    async def positions_of(self, scope: Scope, identities: Sequence[bytes]) -> dict[bytes, EventPosition]:
        """Where the events of these identities stand; those that are not stored are left out."""
        conditions = Conditions(scope)
        conditions.where.append("identity IN (SELECT toFixedString(unhex(arrayJoin({identities:Array(String)})), 16))")
        conditions.parameters["identities"] = [identity.hex() for identity in identities]
        rows = await positioned_rows(
            self._client, "events", f"hex(identity), {POSITION}", conditions.text, "", conditions.parameters
        )
        return {bytes.fromhex(row[0]): read_position(row[1:5]) for row in rows}

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
        by_identity = f"{IN_SCOPE} AND identity = unhex({{identity:String}})"
        end = "ORDER BY logged_at, partition, `offset`, `index` LIMIT {limit:UInt32}"
        stored = await positioned_rows(self._client, "events", _STORED, by_identity, end, parameters)
        copies = await positioned_rows(self._client, "event_duplicates", _DUPLICATE, by_identity, end, parameters)
        by_name = f"{IN_SCOPE} AND source = {{source:String}} AND id = {{id:String}}"
        refusals = await positioned_rows(self._client, "events_rejected", REFUSED, by_name, end, parameters)
        if not (stored or copies or refusals):
            return None
        first = _stored(stored[0]) if stored else None
        return EventFate(
            source=source,
            id=event_id,
            status="accepted" if stored else "duplicate" if copies else "rejected",
            event=first,
            duplicates=tuple(_duplicate(row, first) for row in copies),
            rejections=tuple(read_refused(row) for row in refusals),
        )


def _conditions(scope: Scope, wanted: EventFilter) -> Conditions:
    conditions = Conditions(scope)
    conditions.among("customer", "references", wanted.references)
    conditions.equal("type", wanted.type)
    conditions.equal("id", wanted.id)
    conditions.between("time", wanted.start, wanted.end)
    if wanted.cut is not None:
        conditions.where.append("cut < {cut:UInt64}")
        conditions.parameters["cut"] = wanted.cut
    return conditions


def _stored(row: Row) -> StoredEvent:
    meters, generations, values, keys, dimensions = row[10:15]
    issues = zip(*row[15:18], strict=True)
    return StoredEvent(
        id=row[0],
        source=row[1],
        type=row[2],
        customer=row[3],
        customer_id=row[4] or None,
        time=in_utc(row[5]),
        received_at=in_utc(row[6]),
        logged_at=in_utc(row[7]),
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
        position=read_position(row[18:22]),
    )


def _duplicate(row: Row, first: StoredEvent | None) -> DuplicateEvent:
    source, event_id, received_at, logged_at, *place = row[:7]
    event_type, customer, time, properties = row[7:11]
    position = read_position(row[11:15])
    copy = DuplicateEvent(
        source=source,
        id=event_id,
        received_at=in_utc(received_at),
        logged_at=in_utc(logged_at),
        position=position,
        first=read_position((position.topic_id, *place)),
        type=event_type,
        customer=customer,
        time=None if time is None else in_utc(time),
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
