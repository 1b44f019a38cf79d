"""A record whose events are all sound, read a column at a time: three times as fast as one verdict after the other.

Whatever is not plainly sound is no case for here: `read_sound` then says nothing, and `parse_events` says what is wrong
with which event. Where it does answer, the verdicts are the same.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from domain.candidates import EventColumns
from domain.events import MAX_EVENT_BYTES, exact_decoder, split_events
from domain.records import MS_PER_DAY
from domain.sound_events import Sent, flat, named, short_and_plain
from schemas.catalog import TenantLimits

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


_decoder = exact_decoder(list[Sent])


def read_sound(body: bytes, received_at_ms: int, limits: TenantLimits) -> EventColumns | None:
    """All events of an array, as columns; None where one of them may be refused, or the body is no array. Never raises."""
    try:
        sent = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if len(body) > MAX_EVENT_BYTES and any(memoryview(raw).nbytes > MAX_EVENT_BYTES for raw in split_events(body)):
        return None
    if not sent:
        return None
    ids, types, customers, sources, times, properties = zip(*map(msgspec.structs.astuple, sent), strict=True)
    time_ms = _milliseconds(times, received_at_ms)
    if time_ms is None or not _times_fit(time_ms, received_at_ms, limits):
        return None
    texts_fit = named(ids) and named(set(types)) and named(set(customers)) and short_and_plain(set(sources))
    if not texts_fit or not _depth_fits(body, properties):
        return None
    return EventColumns(
        id=ids, type=types, customer=customers, source=sources, time=times, time_ms=time_ms, properties=properties
    )


def _milliseconds(times: Sequence[datetime | None], received_at_ms: int) -> list[int] | None:
    """None where a time has no zone."""
    # By hand, and not by a division of timedeltas: that takes as long as all the rest of a record.
    try:
        return [
            received_at_ms
            if time is None
            else (since := time - _EPOCH).days * MS_PER_DAY + since.seconds * 1000 + since.microseconds // 1000
            for time in times
        ]
    except TypeError:
        return None


def _times_fit(time_ms: list[int], received_at_ms: int, limits: TenantLimits) -> bool:
    return (
        received_at_ms - min(time_ms) <= limits.max_event_age_s * 1000
        and max(time_ms) - received_at_ms <= limits.max_event_ahead_s * 1000
    )


def _depth_fits(body: bytes, properties: Sequence[dict[str, Any]]) -> bool:
    """Whether no properties nest too deep."""
    # A brace for each event and for each one's properties, a bracket for the array: nothing nests in them.
    if body.count(b"{") == len(properties) + sum(map(bool, properties)) and body.count(b"[") == 1:
        return True
    return flat(properties)
