"""A rejected event mended and named, so that it can be sent again and still counts once.

The identity of a replay: the event keeps the source and id that it was sent with, where they can be read, so that a copy
that its producer sends meets it; else it takes those that the mended event names, else an id made of its position.
"""

from datetime import datetime, timedelta
from typing import Any

import msgspec

from domain.errors import Invalid
from domain.event_names import identifying_name
from domain.events import MAX_DEPTH, decode_properties, encode_properties
from schemas.event_records import EventPosition

Body = dict[str, Any]

# protocol 5: fields by which foreign producers say whose an event is; the key of whoever replays it says it now.
_OWNER = ("tenant", "environment")


class Fix(msgspec.Struct, frozen=True, kw_only=True):
    """How events are mended: `patch` is a JSON merge patch (RFC 7396) of each, `event` stands in for the one."""

    patch: Body | None = None
    event: Body | None = None


def check_age(received_at: datetime, now: datetime, max_event_age_s: int) -> None:
    """Raises Invalid `replay_too_old`: the filter has forgotten what was sent with it (protocol 21)."""
    if now - received_at > timedelta(seconds=max_event_age_s):
        raise Invalid(
            "replay_too_old",
            f"it was received more than {max_event_age_s} s ago, longer than copies are remembered:"
            " send it through the backfill API",
        )


def replay_id(position: EventPosition) -> str:
    """The id of an event that has none: the same whoever replays it."""
    return f"replay-{position.topic_id}-{position.partition}-{position.offset}-{position.index}"


def mended_event(original: bytes, position: EventPosition, fix: Fix) -> bytes:
    """The event to be judged, as JSON with its numbers as they were sent. Checks nothing but its identity.

    Raises Invalid `replay_unreadable` where there is no event in the original and none is given, and
    `replay_identity_changed` where the mended event would be another one than was sent.
    """
    given = identifying_name(original)
    body = dict(fix.event) if fix.event is not None else _merged(_decoded(original), fix.patch or {})
    for name in _OWNER:
        body.pop(name, None)
    if given is None:
        if body.get("id") in (None, ""):
            body["id"] = replay_id(position)
    elif (body.get("source", ""), body.get("id", given.id)) != (given.source, given.id):
        raise Invalid(
            "replay_identity_changed",
            f"the event was sent as source {given.source!r}, id {given.id!r}: with another identity it could count twice",
        )
    else:
        body["id"] = given.id
    try:
        return encode_properties(body)
    except RecursionError:
        raise _too_deep() from None


def _decoded(original: bytes) -> Body:
    try:
        return decode_properties(original)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Invalid(
            "replay_unreadable", "there is no event in what was sent: give the whole `event` instead of a patch"
        ) from None


def _merged(target: Body, patch: Body, depth: int = 0) -> Body:
    """RFC 7396: null removes, objects are merged, everything else replaces."""
    if depth > MAX_DEPTH:
        raise _too_deep()
    merged = dict(target)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            former = merged.get(name)
            merged[name] = _merged(former if isinstance(former, dict) else {}, value, depth + 1)
        else:
            merged[name] = value
    return merged


def _too_deep() -> Invalid:
    return Invalid("too_deep", f"properties nest at most {MAX_DEPTH} levels deep")
