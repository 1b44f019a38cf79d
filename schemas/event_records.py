"""Events as they were kept: what the API answers about single events."""

from datetime import datetime
from decimal import Decimal
from typing import Literal

from msgspec import Raw, Struct


class EventMatch(Struct, frozen=True, kw_only=True):
    """One meter that counted the event, and what of it; `dimensions` in the meter's order, "" where missing."""

    meter_id: str
    generation: int
    value: Decimal | None
    unique_key: str | None
    dimensions: tuple[str, ...]


class EventIssue(Struct, frozen=True, kw_only=True):
    """One meter that could not use the event's value, and why."""

    meter_id: str
    generation: int
    code: str


class EventPosition(Struct, frozen=True, kw_only=True):
    """`schemas.events.Position` with names, for readers."""

    topic_id: str
    partition: int
    offset: int
    index: int


class StoredEvent(Struct, frozen=True, kw_only=True):
    """An accepted event. `customer` is the reference as sent, `customer_id` what it meant then (None: nobody)."""

    id: str
    source: str
    type: str
    customer: str
    customer_id: str | None
    time: datetime
    received_at: datetime
    logged_at: datetime
    properties: Raw
    position: EventPosition
    cut: int
    matches: tuple[EventMatch, ...]
    issues: tuple[EventIssue, ...]


class DuplicateEvent(Struct, frozen=True, kw_only=True):
    """A copy that was not counted, since the same identity stood at `first` before, and what it said.

    `conflict`: it says something else than the first, in the fields of `differs`; None where that cannot be told, since
    the first is not there or the copy was kept before bodies were. `time` is None where none was sent.
    """

    source: str
    id: str
    received_at: datetime
    logged_at: datetime
    position: EventPosition
    first: EventPosition
    type: str
    customer: str
    time: datetime | None
    properties: Raw | None
    conflict: bool | None = None
    differs: tuple[str, ...] = ()


class Replay(Struct, frozen=True, kw_only=True):
    """As what a rejected event was sent again, and when; `at` None: it was begun, and not said to be in the log."""

    tenant: str
    environment: str
    source: str
    id: str
    at: datetime | None


class RefusedEvent(Struct, frozen=True, kw_only=True):
    """An event, or a record as a whole, that the worker could not accept.

    `source` and `id` are "" where they cannot be read. `original` is what was sent: as text, or as base64 where it is no
    UTF-8; cut off where it is long (`original_bytes` is its whole length).
    """

    source: str
    id: str
    code: str
    message: str
    received_at: datetime
    logged_at: datetime
    position: EventPosition
    original: str
    original_encoding: Literal["utf-8", "base64"]
    original_bytes: int
    replay: Replay | None = None


class EventFate(Struct, frozen=True, kw_only=True):
    """What became of one (source, id): at most one stored event, any number of copies and refusals."""

    source: str
    id: str
    status: Literal["accepted", "duplicate", "rejected"]
    event: StoredEvent | None
    duplicates: tuple[DuplicateEvent, ...]
    rejections: tuple[RefusedEvent, ...]
