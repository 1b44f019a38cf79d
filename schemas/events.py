"""Events as they travel: from the request to `usage.raw`, and what became of each."""

from datetime import datetime
from typing import Any

import msgspec


class UsageEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a `usage.raw` record. Its JSON is as it was sent, or as the API wrote it: it reads the same.

    `time` is aware (None: the receipt time). `customer` is the reference as sent: an id, an external id or an alias.
    `tenant` and `environment` are set only in bare events of foreign producers, whose records carry no headers.
    """

    id: str
    type: str
    customer: str
    source: str = ""
    time: datetime | None = None
    properties: dict[str, Any] = {}
    tenant: str = ""
    environment: str = ""


class Position(msgspec.Struct, frozen=True, kw_only=True, order=True, array_like=True):
    """Where an event stands in the log. Ordered within one topic and partition."""

    topic_id: str
    partition: int
    offset: int
    index: int


class RejectedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Why one event of a request was refused: `index` counts within the request."""

    index: int
    code: str
    message: str
    id: str | None = None


class IngestAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of 202, and of 422 when every event was refused."""

    accepted: int
    rejected: list[RejectedEvent]


class RejectedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record of `usage.rejected`: what could not be accepted, why, where it stood, and the original bytes.

    Of a record of more than 14 MiB `original` is the beginning: `original_bytes` is the whole length.
    """

    code: str
    message: str
    position: Position
    tenant: str
    environment: str
    received_at_ms: int
    original: bytes
    original_bytes: int
