"""Whose a refused event is and what it is called, however wrong the rest of it is. Nothing here raises."""

from typing import Any

import msgspec
from msgspec import Raw

from domain.events import CONTROL, MAX_FIELD_LENGTH


class EventName(msgspec.Struct, frozen=True, kw_only=True):
    """What can be told; "" where nothing."""

    source: str = ""
    id: str = ""
    tenant: str = ""
    environment: str = ""


class _AnyName(msgspec.Struct, frozen=True, kw_only=True):
    source: Any = ""
    id: Any = ""
    tenant: Any = ""
    environment: Any = ""


_decoder = msgspec.json.Decoder(_AnyName)


def read_name(raw: bytes | Raw) -> EventName:
    """As much of the name as is usable, so that a refused event can be found and owned."""
    found = _read(raw) or _AnyName()
    return EventName(
        source=_usable(found.source),
        id=_usable(found.id),
        tenant=_usable(found.tenant),
        environment=_usable(found.environment),
    )


def identifying_name(raw: bytes | Raw) -> EventName | None:
    """Source and id as the event says them; None where they cannot be told: then it has no identity."""
    found = _read(raw)
    if found is None:
        return None
    source, event_id = _usable(found.source), _usable(found.id)
    return EventName(source=source, id=event_id) if event_id and source == found.source else None


def _read(raw: bytes | Raw) -> _AnyName | None:
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _usable(text: Any) -> str:
    return text if type(text) is str and len(text) <= MAX_FIELD_LENGTH and not CONTROL.search(text) else ""
