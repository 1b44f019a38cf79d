"""Fix and replay of rejected events: what is asked, and what became of each."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from schemas.event_records import EventPosition

REPLAYS_MAX = 1_000

_Count = Annotated[int, Meta(ge=0, le=(1 << 31) - 1)]


class SentPosition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`EventPosition` as a client sends it."""

    topic_id: str
    partition: Annotated[int, Meta(ge=0, le=(1 << 16) - 1)]
    offset: Annotated[int, Meta(ge=0, le=(1 << 62))]
    index: _Count = 0


class ReplayFilter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As the parameters of the list of rejected events."""

    code: str | None = None
    customer: str | None = None
    source: str | None = None
    id: str | None = None
    partition: Annotated[int, Meta(ge=0, le=(1 << 16) - 1)] | None = None
    start: str | None = msgspec.field(default=None, name="from")
    end: str | None = msgspec.field(default=None, name="to")


class ReplayRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rejected events (`positions`, or `filter` with `limit` and `cursor`), how they are mended (`patch`, a JSON
    merge patch of each; or `event`, which stands in for the one), and whether it is only tried (`dry_run`).

    `unowned`: of those that are nobody's; the caller's tenant and environment become their owner.
    """

    positions: Annotated[list[SentPosition], Meta(min_length=1, max_length=REPLAYS_MAX)] | None = None
    filter: ReplayFilter | None = None
    limit: Annotated[int, Meta(ge=1, le=REPLAYS_MAX)] = 100
    cursor: str | None = None
    patch: dict[str, Any] | None = None
    event: dict[str, Any] | None = None
    dry_run: bool = False
    unowned: bool = False


class ReplayedEvent(Struct, frozen=True, kw_only=True):
    """What became of one. `event` is what is sent, with `received_at`, by which it is judged; None where it is refused
    before there is one. `already_replayed`: it was sent before, and is not sent again.
    """

    position: EventPosition
    status: Literal["accepted", "rejected"]
    source: str = ""
    id: str = ""
    received_at: datetime | None = None
    event: Raw | None = None
    already_replayed: bool = False
    code: str | None = None
    message: str | None = None


class ReplayAnswer(Struct, frozen=True, kw_only=True):
    """`next_cursor` goes on behind the last of a filter's; null where there are no more, and with positions."""

    dry_run: bool
    accepted: int
    rejected: int
    items: list[ReplayedEvent]
    next_cursor: str | None
