"""Whether all events of a batch are sound, asked of columns: several times as fast as a verdict on each.

The answer is the one of `domain.events.parse_event`, or none: then each event must be asked, which also says why.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Raw

from domain.errors import Invalid
from domain.events import MAX_EVENT_BYTES, MAX_FIELD_LENGTH, check_depth, exact_decoder
from schemas.catalog import TenantLimits

# No event up to this size outgrows MAX_EVENT_BYTES when it is written out: a number at most doubles (1e-6 is 0.000001).
SURELY_SMALL_BYTES = MAX_EVENT_BYTES // 4

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Sent(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The fields that a sender may set. Nothing in it can refer back to it, so the garbage collector need not look."""

    id: str
    type: str
    customer: str
    source: str = ""
    time: datetime | None = None
    properties: dict[str, Any] = {}


class SoundEvents(msgspec.Struct, frozen=True, gc=False):
    """Columns of events that `parse_event` would all accept."""

    ids: Sequence[str]
    sources: Sequence[str]
    customers: frozenset[str]


_decoder = exact_decoder(Sent)


def sound_events(raws: Sequence[bytes | Raw], received_at_ms: int, limits: TenantLimits) -> SoundEvents | None:
    """The columns of `raws`, at least one, when every one is surely accepted; None when one may not be. Raises nothing."""
    try:
        if max(map(len, map(memoryview, raws))) > SURELY_SMALL_BYTES:  # type: ignore[arg-type]
            return None
        sent = list(map(_decoder.decode, raws))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    ids, types, customers, sources, times, properties = zip(*map(msgspec.structs.astuple, sent), strict=True)
    owners = frozenset(customers)
    if not (named(ids) and named(set(types)) and named(owners) and short_and_plain(set(sources))):
        return None
    if not _timely([time for time in times if time is not None], received_at_ms, limits) or not flat(properties):
        return None
    return SoundEvents(ids=ids, sources=sources, customers=owners)


def named(texts: Collection[str]) -> bool:
    """Whether all of these (at least one) are sound as an id, a type or a customer. False says nothing."""
    return all(texts) and short_and_plain(texts)


def short_and_plain(texts: Collection[str]) -> bool:
    """Whether all of these (at least one) are sound as a source. False says nothing."""
    return max(map(len, texts)) <= MAX_FIELD_LENGTH and "".join(texts).isprintable()


def _timely(times: Sequence[datetime], received_at_ms: int, limits: TenantLimits) -> bool:
    """As `check_time` of each: milliseconds are rounded down there, so all of the last one that is taken is taken."""
    if not times:
        return True
    try:
        earliest = _EPOCH + timedelta(milliseconds=received_at_ms - limits.max_event_age_s * 1000)
        beyond = _EPOCH + timedelta(milliseconds=received_at_ms + limits.max_event_ahead_s * 1000 + 1)
        return earliest <= min(times) and max(times) < beyond
    except (TypeError, OverflowError):  # a time without zone among them; limits beyond all times
        return False


def flat(properties: Sequence[dict[str, Any]]) -> bool:
    """Whether no properties nest too deep."""
    if {type(value) for one in properties for value in one.values()}.isdisjoint((dict, list)):
        return True
    try:
        for one in properties:
            for value in one.values():
                if type(value) is dict or type(value) is list:
                    check_depth(value)
    except Invalid:
        return False
    return True
