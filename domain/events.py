"""One verdict on an event, the same function of the same inputs in the API and in the worker (protocol 7).

JSON is decoded with fractions as Decimal and integers as int, never through a float. A number whose exponent no
decimal can hold is kept as its text; an integer of more than 4,300 digits is refused (`number_too_long`). NaN and
Infinity are no JSON, nor is a lone surrogate: `malformed_json`. Control characters are refused in id, source, type and
customer (`invalid_character`), since they are keys in stores that do not take them; in properties they are data.

Codes: malformed_json, not_an_object, field_missing, wrong_type, unknown_field, properties_not_an_object, time_malformed,
time_without_zone, empty_field, field_too_long, invalid_character, event_too_large, too_deep, number_too_long,
event_too_old, event_in_future; of CloudEvents besides: specversion_unsupported, data_not_json.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from domain.errors import FieldError, Invalid
from domain.json_arrays import split_array
from schemas.catalog import TenantLimits
from schemas.events import UsageEvent

T = TypeVar("T")

MAX_EVENT_BYTES = 256 * 1024
MAX_FIELD_LENGTH = 255
MAX_DEPTH = 32  # of objects and arrays, properties being the first

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS_PER_DAY = 86_400_000
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_AT = re.compile(r" - at `\$(?:\[\d*\])?\.?([^`]*)`$")
_NAMED = re.compile(r"`([^`]*)`")


class _Event(UsageEvent, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The canonical event, strict about what it does not know."""


class _CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """CloudEvents 1.0, structured. Extension attributes are ignored."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: datetime | None = None
    data: dict[str, Any] = {}
    data_base64: str | None = None


def _number(text: str) -> Decimal | str:
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


_event_decoder = msgspec.json.Decoder(_Event, float_hook=_number)
_events_decoder = msgspec.json.Decoder(list[_Event], float_hook=_number)
_cloudevent_decoder = msgspec.json.Decoder(_CloudEvent, float_hook=_number)
_properties_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=_number)
_encoder = msgspec.json.Encoder(decimal_format="number")


def exact_decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    """A decoder that reads numbers as those of events are read: exactly."""
    return msgspec.json.Decoder(kind, float_hook=_number)


def decode_properties(text: bytes | str) -> dict[str, Any]:
    """Properties as a meter reads them, from the JSON that `encode_properties` made (or any object). Trusted input."""
    return _properties_decoder.decode(text)


def encode_properties(properties: dict[str, Any]) -> bytes:
    """Compact JSON; every number keeps its value and its digits."""
    return _encoder.encode(properties)


def encode_properties_of(properties: Sequence[dict[str, Any]]) -> list[bytes]:
    """`encode_properties` of each: compact JSON has no line break of its own."""
    return _encoder.encode_lines(properties).split(b"\n")[:-1]


def encode_event(event: UsageEvent) -> bytes:
    """The event as JSON that `parse_event` reads back as equal; fields at their defaults are left out."""
    strict = _Event(
        id=event.id,
        type=event.type,
        customer=event.customer,
        source=event.source,
        time=event.time,
        properties=event.properties,
        tenant=event.tenant,
        environment=event.environment,
    )
    return _encoder.encode(strict)


def split_events(body: bytes) -> list[Raw]:
    """The events of a body or record as they were sent: elements of an array, or the one. Raises `malformed_json`."""
    return split_array(body)


def parse_event(raw: bytes | Raw, received_at_ms: int, limits: TenantLimits, *, foreign: bool = False) -> UsageEvent:
    """The verdict on one event as it was sent. `time` stays None where it was left out: the receipt time counts.

    `foreign` events (bare ones, written to the topic by any producer) may name their tenant and environment.
    Raises Invalid with a code of this module, and no other exception, whatever the bytes are.
    """
    _check_size(raw)
    try:
        event: UsageEvent = _event_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refusal(error) from None
    _check(event, received_at_ms, limits, foreign)
    return event


def parse_cloudevent(raw: bytes | Raw, received_at_ms: int, limits: TenantLimits) -> UsageEvent:
    """As `parse_event`, of a structured CloudEvent: `subject` is the customer, `data` the properties."""
    _check_size(raw)
    try:
        sent = _cloudevent_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refusal(error) from None
    if sent.specversion != "1.0":
        raise _invalid("specversion", "specversion_unsupported", "only CloudEvents 1.0 are taken")
    if sent.data_base64 is not None:
        raise _invalid("data_base64", "data_not_json", "data must be a JSON object")
    event = UsageEvent(
        id=sent.id,
        type=sent.type,
        customer=sent.subject,
        source=sent.source,
        time=sent.time,
        properties=sent.data,
    )
    _check(event, received_at_ms, limits, False)  # noqa: FBT003
    return event


def parse_events(
    body: bytes, received_at_ms: int, limits: TenantLimits, *, foreign: bool = False
) -> list[UsageEvent | Invalid]:
    """The verdicts on a record or body of one event or an array of them, in order: as `parse_event` of each, faster.

    Raises Invalid `malformed_json` where the whole is no JSON.
    """
    raws = None if len(body) <= MAX_EVENT_BYTES else split_events(body)
    if raws is None or all(memoryview(raw).nbytes <= MAX_EVENT_BYTES for raw in raws):
        try:
            events = _events_decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # no array, or at least one of it is refused: ask each
        else:
            return [_verdict(event, received_at_ms, limits, foreign) for event in events]
    verdicts: list[UsageEvent | Invalid] = []
    for raw in split_events(body) if raws is None else raws:
        try:
            verdicts.append(parse_event(raw, received_at_ms, limits, foreign=foreign))
        except Invalid as invalid:
            verdicts.append(invalid)
    return verdicts


def event_time_ms(event: UsageEvent, received_at_ms: int) -> int:
    """Milliseconds since the epoch, rounded down; the receipt time where the event has none."""
    return received_at_ms if event.time is None else _to_ms(event.time)


def check_time(time_ms: int, received_at_ms: int, limits: TenantLimits) -> None:
    """Raises Invalid `event_too_old` or `event_in_future`, judged by receipt time alone (protocol 7)."""
    if received_at_ms - time_ms > limits.max_event_age_s * 1000:
        raise _invalid(
            "time",
            "event_too_old",
            f"the event is older than {limits.max_event_age_s} s at its receipt: send it through the backfill API",
        )
    if time_ms - received_at_ms > limits.max_event_ahead_s * 1000:
        raise _invalid(
            "time", "event_in_future", f"the event is more than {limits.max_event_ahead_s} s ahead of its receipt"
        )


def _to_ms(time: datetime) -> int:
    since = time - _EPOCH
    return since.days * _MS_PER_DAY + since.seconds * 1000 + since.microseconds // 1000


def _verdict(event: UsageEvent, received_at_ms: int, limits: TenantLimits, foreign: bool) -> UsageEvent | Invalid:  # noqa: FBT001 - by position for speed
    try:
        _check(event, received_at_ms, limits, foreign)
    except Invalid as invalid:
        return invalid
    return event


def _check_size(raw: bytes | Raw) -> None:
    if memoryview(raw).nbytes > MAX_EVENT_BYTES:
        raise Invalid("event_too_large", f"an event is at most {MAX_EVENT_BYTES} bytes long")


def _check(event: UsageEvent, received_at_ms: int, limits: TenantLimits, foreign: bool) -> None:  # noqa: FBT001 - by position for speed
    """What types cannot say. Straight-line for the sound event: this runs once per event at 10,000 a second."""
    texts = event.id + event.type + event.customer + event.source
    if len(texts) > MAX_FIELD_LENGTH or not texts.isprintable() or not (event.id and event.type and event.customer):
        _check_texts(event)
    time = event.time
    if time is not None:
        if time.tzinfo is None:
            raise _invalid("time", "time_without_zone", "a time carries its zone, as in 2026-11-22T10:00:00.123Z")
        check_time(_to_ms(time), received_at_ms, limits)
    for value in event.properties.values():
        if type(value) is dict or type(value) is list:
            check_depth(value)
    if (event.tenant or event.environment) and not foreign:
        name = "tenant" if event.tenant else "environment"
        raise _invalid(name, "unknown_field", f"{name!r} is no field of an event: the key carries it")


def _check_texts(event: UsageEvent) -> None:
    for name, text in (("id", event.id), ("type", event.type), ("customer", event.customer), ("source", event.source)):
        if not text and name != "source":
            raise _invalid(name, "empty_field", f"{name} is not empty")
        if len(text) > MAX_FIELD_LENGTH:
            raise _invalid(name, "field_too_long", f"{name} is at most {MAX_FIELD_LENGTH} characters long")
        if CONTROL.search(text):
            raise _invalid(name, "invalid_character", f"{name} has a control character")


_CONTAINERS = frozenset((dict, list))


def check_depth(value: Any) -> None:
    """Raises Invalid `too_deep` for one property's value."""
    level, depth = [value] if type(value) in _CONTAINERS else [], 1
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _invalid("properties", "too_deep", f"properties nest at most {MAX_DEPTH} levels deep")
        level = [
            item
            for container in level
            for item in (container.values() if type(container) is dict else container)
            if type(item) in _CONTAINERS
        ]


def _invalid(field: str, code: str, message: str) -> Invalid:
    return Invalid(code, message, (FieldError(pointer=f"/{field}", code=code, message=message),))


def _refusal(error: Exception) -> Invalid:
    """The decoder's error as one of our codes. Its texts are pinned with its version and tested."""
    if isinstance(error, RecursionError):
        return _invalid("properties", "too_deep", f"properties nest at most {MAX_DEPTH} levels deep")
    if not isinstance(error, msgspec.ValidationError):
        return Invalid("malformed_json", "the event is not JSON")
    text = str(error)
    at = _AT.search(text)
    field = at.group(1).split("[")[0].split(".")[0] if at else ""
    named = _NAMED.search(text)
    if text.startswith("Object missing required field"):
        name = named.group(1) if named else ""
        return _invalid(name, "field_missing", f"{name!r} is missing")
    if text.startswith("Object contains unknown field"):
        name = named.group(1) if named else ""
        return _invalid(name, "unknown_field", f"{name!r} is no field of an event")
    if text.startswith("Integer value out of range"):
        return _invalid(field, "number_too_long", "a number has more than 4,300 digits")
    return _type_refusal(field)


def _type_refusal(field: str) -> Invalid:
    if not field:
        return Invalid("not_an_object", "an event is a JSON object")
    if field in {"properties", "data"}:
        return _invalid(field, "properties_not_an_object", f"{field} must be a JSON object")
    if field == "time":
        return _invalid(field, "time_malformed", "a time is RFC 3339 text, as in 2026-11-22T10:00:00.123Z")
    return _invalid(field, "wrong_type", f"{field} must be text")
