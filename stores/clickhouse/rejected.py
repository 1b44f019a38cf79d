"""What the worker refused: lists, newest first, counts by code, and the whole originals of some."""

import base64
from collections.abc import Sequence
from datetime import datetime

import msgspec

from schemas.event_records import EventPosition, RefusedEvent
from schemas.scope import Scope
from stores.clickhouse.client import ClickhouseClient, Row
from stores.clickhouse.pages import (
    POSITION,
    Conditions,
    in_utc,
    page_of_rows,
    positioned_rows,
    read_position,
)

# Of a longer original a list shows so much.
SHOWN_BYTES = 64 * 1024
_TABLE = "events_rejected"


def _columns(shown_bytes: int) -> str:
    # As base64: a driver's text would break on bytes that are none.
    return (
        f"source, id, code, message, received_at, logged_at, base64Encode(substring(original, 1, {shown_bytes})), "
        f"isValidUTF8(original), length(original), {POSITION}"
    )


REFUSED = _columns(SHOWN_BYTES)


class RefusedFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which refusals: all conditions hold. `references` are texts that the event names its customer by; `[start, end)`
    is of log time.
    """

    code: str | None = None
    references: tuple[str, ...] | None = None
    source: str | None = None
    id: str | None = None
    partition: int | None = None
    start: datetime | None = None
    end: datetime | None = None


class RefusedPage(msgspec.Struct, frozen=True, kw_only=True):
    items: list[RefusedEvent]
    next_cursor: str | None


class RefusedCode(msgspec.Struct, frozen=True, kw_only=True):
    """How many events, or records, were refused by this code, and when the last one was."""

    code: str
    count: int
    last_logged_at: datetime


class Original(msgspec.Struct, frozen=True, kw_only=True):
    """All of what was sent, of one refusal."""

    position: EventPosition
    code: str
    received_at: datetime
    original: bytes


class RefusedStore:
    """Reads; changes nothing. The scope ("", "") holds what is nobody's."""

    def __init__(self, client: ClickhouseClient) -> None:
        self._client = client

    async def page(
        self,
        scope: Scope,
        wanted: RefusedFilter,
        *,
        limit: int,
        cursor: str | None,
        shown_bytes: int = SHOWN_BYTES,
    ) -> RefusedPage:
        """Refusals by descending log time. Raises Invalid `cursor_invalid`."""
        rows, following = await page_of_rows(
            self._client, _TABLE, _columns(shown_bytes), "logged_at", _conditions(scope, wanted), limit, cursor
        )
        return RefusedPage(items=[read_refused(row) for row in rows], next_cursor=following)

    async def counts(self, scope: Scope, wanted: RefusedFilter) -> list[RefusedCode]:
        """Refusals by code, the most frequent first."""
        conditions = _conditions(scope, wanted)
        rows = await positioned_rows(
            self._client,
            _TABLE,
            "code, count() AS refused, max(logged_at)",
            conditions.text,
            "GROUP BY code ORDER BY refused DESC, code",
            conditions.parameters,
        )
        return [RefusedCode(code=row[0], count=row[1], last_logged_at=in_utc(row[2])) for row in rows]

    async def bytes_of(self, scope: Scope, positions: Sequence[EventPosition]) -> int:
        """How long the originals at these positions are together."""
        conditions = _at(scope, positions)
        rows = await positioned_rows(
            self._client, _TABLE, "sum(length(original))", conditions.text, "", conditions.parameters
        )
        return int(rows[0][0])

    async def originals(self, scope: Scope, positions: Sequence[EventPosition]) -> dict[EventPosition, Original]:
        """What was sent at these positions; those of nobody's refusals are left out."""
        conditions = _at(scope, positions)
        rows = await positioned_rows(
            self._client,
            _TABLE,
            f"code, received_at, base64Encode(original), {POSITION}",
            conditions.text,
            "",
            conditions.parameters,
        )
        found = [
            Original(
                position=read_position(row[3:7]),
                code=row[0],
                received_at=in_utc(row[1]),
                original=base64.b64decode(row[2]),
            )
            for row in rows
        ]
        return {one.position: one for one in found}


def read_refused(row: Row) -> RefusedEvent:
    """A row of `REFUSED`."""
    source, event_id, code, message, received_at, logged_at, encoded, is_text, length = row[:9]
    return RefusedEvent(
        source=source,
        id=event_id,
        code=code,
        message=message,
        received_at=in_utc(received_at),
        logged_at=in_utc(logged_at),
        position=read_position(row[9:13]),
        # Where it was cut off, a character may have been cut in two.
        original=base64.b64decode(encoded).decode(errors="ignore") if is_text else encoded,
        original_encoding="utf-8" if is_text else "base64",
        original_bytes=length,
    )


def _conditions(scope: Scope, wanted: RefusedFilter) -> Conditions:
    conditions = Conditions(scope)
    conditions.equal("code", wanted.code)
    conditions.equal("source", wanted.source)
    conditions.equal("id", wanted.id)
    conditions.equal("partition", wanted.partition, "UInt16")
    conditions.among("JSONExtractString(original, 'customer')", "references", wanted.references)
    conditions.between("logged_at", wanted.start, wanted.end)
    return conditions


def _at(scope: Scope, positions: Sequence[EventPosition]) -> Conditions:
    conditions = Conditions(scope)
    conditions.where.append(
        f"({POSITION}) IN (SELECT arrayJoin(arrayZip({{topics:Array(String)}}, {{partitions:Array(UInt16)}},"
        " {offsets:Array(UInt64)}, {indexes:Array(UInt32)})))"
    )
    conditions.parameters |= {
        "topics": [one.topic_id for one in positions],
        "partitions": [one.partition for one in positions],
        "offsets": [one.offset for one in positions],
        "indexes": [one.index for one in positions],
    }
    return conditions
