"""From bytes to verdicts: which events of a body are accepted, into which partition they go, and why others are not.

Pure: no clock, no I/O. Nothing here raises anything but Invalid and BodyTooLarge, whatever the bytes are.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import msgspec
from msgspec import Raw

from api.errors import BodyTooLarge
from api.ingest_body import Format
from domain.errors import Invalid
from domain.events import MAX_EVENT_BYTES, MAX_FIELD_LENGTH, encode_event, event_time_ms, parse_cloudevent, parse_event
from domain.identity import identities_in, identities_of, partition_of, partitions_of
from domain.sound_events import sound_events
from schemas.catalog import TenantLimits
from schemas.events import RejectedEvent, UsageEvent

_SPACE = b" \t\r\n"

# Of fewer the columns cost more than they spare.
_BATCH_MIN = 4

_list_decoder = msgspec.json.Decoder(list[Raw])
_value_decoder = msgspec.json.Decoder(Raw)


class _WithId(msgspec.Struct):
    id: str | None = None


_id_decoder = msgspec.json.Decoder(_WithId)


class Judge(msgspec.Struct, frozen=True, kw_only=True):
    """By what a request is judged: its owner, one receipt time for all its events, and the owner's limits."""

    tenant: str
    environment: str
    received_at_ms: int
    limits: TenantLimits
    partitions: int
    knows_customer: Callable[[str], bool]


class Verdicts(msgspec.Struct, kw_only=True):
    """What was found so far. `groups` are the accepted events of each partition as JSON, in the order sent."""

    accepted: int = 0
    groups: dict[int, list[bytes | Raw]] = {}
    rejected: list[RejectedEvent] = []
    last: UsageEvent | None = None  # the last accepted event that was judged by itself


@lru_cache(maxsize=4)
def _bounded_decoder(events_max: int) -> msgspec.json.Decoder[msgspec.Struct]:
    """Decodes an array of at most `events_max` values and fails at the first beyond.

    A list decoder would first build millions of objects from a body of commas, and then be asked how many.
    """
    fields = [(f"e{index}", Raw, Raw(b"")) for index in range(events_max)]
    shape = msgspec.defstruct("Bounded", fields, array_like=True, forbid_unknown_fields=True, frozen=True)
    return msgspec.json.Decoder(shape)


def split_body(body: bytes, form: Format, events_max: int) -> Sequence[Raw | bytes]:
    """The events of a body as they were sent, not yet looked at.

    Raises Invalid `malformed_json` when the whole is no JSON, `too_deep` when it nests beyond what can be read at all,
    `no_events` when it holds none, and BodyTooLarge when it holds more than `events_max`.
    """
    events = _lines(body, events_max) if form == "ndjson" else _values(body, form, events_max)
    if not events:
        raise Invalid("no_events", "the body holds no event")
    return events


def _too_many(events_max: int) -> BodyTooLarge:
    return BodyTooLarge(f"a request holds at most {events_max} events: send several")


def _lines(body: bytes, events_max: int) -> list[bytes]:
    if body.count(b"\n", 0, len(body.rstrip(_SPACE))) >= events_max:
        raise _too_many(events_max)
    return [line for line in body.split(b"\n") if line.strip(_SPACE)]


def _values(body: bytes, form: Format, events_max: int) -> Sequence[Raw]:
    is_array = body[:64].lstrip(_SPACE)[:1] == b"["
    try:
        if form == "cloudevent" or not is_array:
            return [_value_decoder.decode(body)]
        if body.count(b",") < events_max:
            return _list_decoder.decode(body)
        values: tuple[Raw, ...] = msgspec.structs.astuple(_bounded_decoder(events_max).decode(body))
        return [value for value in values if memoryview(value).nbytes]
    except msgspec.ValidationError:
        raise _too_many(events_max) from None
    except RecursionError:
        raise Invalid("too_deep", "the body nests too deep to be read") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Invalid("malformed_json", "the body is not JSON") from None


def judge_events(
    events: Sequence[Raw | bytes], form: Format, judge: Judge, verdicts: Verdicts, first_index: int
) -> None:
    """Adds the verdicts on `events`, the first of which is number `first_index` of its request."""
    if len(events) < _BATCH_MIN or form not in {"json", "ndjson"} or not _accept_all(events, judge, verdicts):
        _judge_each(events, form, judge, verdicts, first_index)


def _accept_all(events: Sequence[Raw | bytes], judge: Judge, verdicts: Verdicts) -> bool:
    """Accepts `events` as they were sent, when every one is sound; else does nothing and says so.

    The worker reads what was sent as it would read what is encoded of it: the same decoder, and its last word on
    fields that come twice.
    """
    sound = sound_events(events, judge.received_at_ms, judge.limits)
    if sound is None or (judge.limits.reject_unknown_customer and not all(map(judge.knows_customer, sound.customers))):
        return False
    groups = verdicts.groups
    identities = identities_of(judge.tenant, judge.environment, sound.sources, sound.ids)
    for partition, event in zip(partitions_of(identities, judge.partitions), events, strict=True):
        if partition in groups:
            groups[partition].append(event)
        else:
            groups[partition] = [event]
    verdicts.accepted += len(events)
    return True


def _judge_each(
    events: Sequence[Raw | bytes], form: Format, judge: Judge, verdicts: Verdicts, first_index: int
) -> None:
    parse = parse_cloudevent if form in {"cloudevent", "cloudevents"} else parse_event
    identity_of = identities_in(judge.tenant, judge.environment)
    now, limits, partitions, groups = judge.received_at_ms, judge.limits, judge.partitions, verdicts.groups
    known = judge.knows_customer if limits.reject_unknown_customer else None
    for index, raw in enumerate(events, first_index):
        try:
            event = parse(raw, now, limits)
            if known is not None and not known(event.customer):
                raise Invalid("unknown_customer", "no customer has this id, external id or alias")  # noqa: TRY301
            encoded = encode_event(event)
            if len(encoded) > MAX_EVENT_BYTES:
                # Numbers are written out in full, so a text of exponents can grow; the worker applies the same bound.
                raise Invalid("event_too_large", f"an event is at most {MAX_EVENT_BYTES} bytes long")  # noqa: TRY301
        except Invalid as invalid:
            rejected = RejectedEvent(index=index, id=_id_of(raw), code=invalid.code, message=invalid.message)
            verdicts.rejected.append(rejected)
            continue
        groups.setdefault(partition_of(identity_of(event.source, event.id), partitions), []).append(encoded)
        verdicts.accepted += 1
        verdicts.last = event


def fits_receipt(event: UsageEvent, received_at_ms: int, limits: TenantLimits) -> bool:
    """Whether an accepted event would also be accepted with this receipt time."""
    time_ms = event_time_ms(event, received_at_ms)
    return (
        received_at_ms - time_ms <= limits.max_event_age_s * 1000
        and time_ms - received_at_ms <= limits.max_event_ahead_s * 1000
    )


def _id_of(raw: Raw | bytes) -> str | None:
    """The id of a refused event, when it can be read, so that its sender can find it."""
    try:
        found = _id_decoder.decode(raw).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if found is not None and len(found) <= MAX_FIELD_LENGTH else None


def single_malformed(verdicts: Verdicts, form: Format, count: int) -> bool:
    """Whether the body was one document that is no JSON: then it is refused as a whole, not as an event."""
    return form != "ndjson" and count == 1 and bool(verdicts.rejected) and verdicts.rejected[0].code == "malformed_json"
