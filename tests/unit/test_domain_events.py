from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from domain.errors import Invalid
from domain.events import (
    MAX_EVENT_BYTES,
    decode_properties,
    encode_event,
    encode_properties,
    event_time_ms,
    parse_cloudevent,
    parse_event,
    parse_events,
)
from domain.json_arrays import split_array
from schemas.catalog import TenantLimits

LIMITS = TenantLimits()
RECEIVED = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
RECEIVED_MS = int(RECEIVED.timestamp()) * 1000


def body(**changes: Any) -> bytes:
    fields = {"id": "evt-1", "type": "api.request", "customer": "acme"} | changes
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not ...})


def code(raw: bytes) -> str:
    with pytest.raises(Invalid) as refused:
        parse_event(raw, RECEIVED_MS, LIMITS)
    return refused.value.code


def test_a_whole_event_is_read_as_it_was_sent() -> None:
    raw = (
        b'{"id": "evt-1", "source": "gateway-3", "type": "api.request", "customer": "acme",'
        b' "time": "2026-11-22T09:59:59.123+01:00", "properties": {"tokens": "1500", "price": 0.10, "n": 7}}'
    )
    event = parse_event(raw, RECEIVED_MS, LIMITS)
    assert (event.id, event.source, event.type, event.customer) == ("evt-1", "gateway-3", "api.request", "acme")
    assert event.properties == {"tokens": "1500", "price": Decimal("0.10"), "n": 7}
    assert event_time_ms(event, RECEIVED_MS) == RECEIVED_MS - 3_600_000 - 877
    assert parse_event(encode_event(event), RECEIVED_MS, LIMITS) == event


def test_source_time_and_properties_may_be_left_out() -> None:
    event = parse_event(body(), RECEIVED_MS, LIMITS)
    assert (event.source, event.time, event.properties) == ("", None, {})
    assert event_time_ms(event, RECEIVED_MS) == RECEIVED_MS


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", "malformed_json"),
        (b"{", "malformed_json"),
        (b"\xff\xfe", "malformed_json"),
        (b'{"id": NaN}', "malformed_json"),
        (b'{"id": "a\xff", "type": "t", "customer": "c"}', "malformed_json"),
        (b'{"id": "a", "type": "t", "customer": "c", "properties": {"a": "\\ud800"}}', "malformed_json"),
        (b'{"id": "a", "type": "t", "customer": "c", "properties": {"a": Infinity}}', "malformed_json"),
        (b"null", "not_an_object"),
        (b"[]", "not_an_object"),
        (b"7", "not_an_object"),
        (b"{}", "field_missing"),
        (body(customer=...), "field_missing"),
        (body(id=1), "wrong_type"),
        (body(source=None), "wrong_type"),
        (body(extra=1), "unknown_field"),
        (body(tenant="other"), "unknown_field"),
        (body(environment="live"), "unknown_field"),
        (body(properties=[]), "properties_not_an_object"),
        (body(properties=None), "properties_not_an_object"),
        (body(properties="x"), "properties_not_an_object"),
        (body(time=5), "time_malformed"),
        (body(time="yesterday"), "time_malformed"),
        (body(time="2026-13-01T00:00:00Z"), "time_malformed"),
        (body(time="2026-11-22T09:00:00"), "time_without_zone"),
        (body(id=""), "empty_field"),
        (body(customer=""), "empty_field"),
        (body(type="x" * 256), "field_too_long"),
        (body(source="x" * 256), "field_too_long"),
        (body(id="a\0b"), "invalid_character"),
        (body(customer="a\nb"), "invalid_character"),
        (body(properties={"a": "x" * MAX_EVENT_BYTES}), "event_too_large"),
        (b'{"id": "a", "type": "t", "customer": "c", "properties": {"a": ' + b"9" * 4301 + b"}}", "number_too_long"),
        (b'{"id": "a", "type": "t", "customer": "c", "properties": {"a": ' + b"[" * 32 + b"]" * 32 + b"}}", "too_deep"),
        (
            b'{"id": "a", "type": "t", "customer": "c", "properties": {"a": ' + b"[" * 9000 + b"]" * 9000 + b"}}",
            "too_deep",
        ),
        (body(time="2026-10-18T09:59:59.999Z"), "event_too_old"),
        (body(time="0001-01-01T00:00:00+14:00"), "event_too_old"),
        (body(time="2026-11-22T11:00:00.001Z"), "event_in_future"),
        (body(time="9999-12-31T23:59:59-14:00"), "event_in_future"),
    ],
)
def test_a_bad_event_is_refused_with_its_code(raw: bytes, expected: str) -> None:
    assert code(raw) == expected
    (verdict,) = parse_events(b"[" + raw + b"]", RECEIVED_MS, LIMITS) if expected != "malformed_json" else [None]
    assert verdict is None or (isinstance(verdict, Invalid) and verdict.code == expected)


@pytest.mark.parametrize(
    "raw",
    [
        body(time="2026-10-18T10:00:00Z"),
        body(time="2026-11-22T11:00:00Z"),
        body(time="2026-11-22 09:00:00z"),
        body(id="x" * 255, customer="\u00fc\u00a0\U0001fae8"),
        b'{"id": "a", "type": "t", "customer": "c", "properties": {"a": ' + b"[" * 31 + b"]" * 31 + b"}}",
        body(properties={"": "a\0b", "n": 10**18}),
        b' {"id": "a", "type": "t", "customer": "c", "properties": {"a": ' + b"9" * 60 + b"}} ",
    ],
)
def test_what_lies_on_a_limit_is_accepted(raw: bytes) -> None:
    event = parse_event(raw, RECEIVED_MS, LIMITS)
    assert parse_event(encode_event(event), RECEIVED_MS, LIMITS) == event


def test_limits_are_the_tenants_and_time_is_judged_by_receipt_alone() -> None:
    old = body(time="2025-11-22T10:00:00Z")
    assert parse_event(old, RECEIVED_MS, TenantLimits(max_event_age_s=400 * 86_400)).id == "evt-1"
    assert parse_event(old, int(datetime(2025, 11, 23, tzinfo=UTC).timestamp()) * 1000, LIMITS).id == "evt-1"


def test_numbers_keep_their_value_and_never_pass_through_a_float() -> None:
    text = b'{"a":0.1,"b":12345678901234567890123456.123456789012,"c":100000000000000000001,"d":1E+400}'
    assert encode_properties(decode_properties(text)) == text
    assert decode_properties(b'{"a": 1e99999999999999999999}') == {"a": "1e99999999999999999999"}


def test_a_foreign_bare_event_may_name_its_tenant() -> None:
    event = parse_event(body(tenant="ten", environment="live"), RECEIVED_MS, LIMITS, foreign=True)
    assert (event.tenant, event.environment) == ("ten", "live")


def test_the_good_events_of_a_body_are_accepted_beside_the_bad() -> None:
    good, bad = body(), body(id=7)
    verdicts = parse_events(b"[" + b",".join([good, bad, good, b"[1]"]) + b"]", RECEIVED_MS, LIMITS)
    assert [each.code if isinstance(each, Invalid) else each.id for each in verdicts] == [
        "evt-1",
        "wrong_type",
        "evt-1",
        "not_an_object",
    ]


def test_a_body_of_many_or_of_one_event_is_split_as_it_was_sent() -> None:
    good = body(properties={"a": 1})
    assert [bytes(raw) for raw in split_array(b" \n[" + good + b" , 7 ]")] == [good, b"7"]
    assert [bytes(raw) for raw in split_array(good)] == [good]
    assert parse_events(good, RECEIVED_MS, LIMITS) == [parse_event(good, RECEIVED_MS, LIMITS)]
    assert parse_events(b"[]", RECEIVED_MS, LIMITS) == []
    for bad in (b"", b"[", b"[1,]", b"{]", b"[1] 2"):
        with pytest.raises(Invalid) as refused:
            split_array(bad)
        assert refused.value.code == "malformed_json"


def test_an_event_nested_beyond_reason_spoils_no_other() -> None:
    good = body(properties={"a": 'x ],} "\\'})
    abyss = b'{"id": "a", "type": "t", "customer": "c", "properties": {"a": ' + b"[" * 9000 + b"]" * 9000 + b"}}"
    verdicts = parse_events(b"[" + b", ".join([good, abyss, good]) + b"]", RECEIVED_MS, LIMITS)
    assert [each.code if isinstance(each, Invalid) else each.id for each in verdicts] == ["evt-1", "too_deep", "evt-1"]
    for bad in (b"[" * 9000, b"[" + abyss + b"] 7", b"[" + abyss + b",", b"[" * 9000 + b"}" * 8999):
        with pytest.raises(Invalid):
            parse_events(bad, RECEIVED_MS, LIMITS)


def test_a_large_body_holds_every_event_to_its_own_limit() -> None:
    good, large = body(), body(properties={"a": "x" * MAX_EVENT_BYTES})
    verdicts = parse_events(b"[" + b",".join([good, large] + [good] * 4000) + b"]", RECEIVED_MS, LIMITS)
    assert [index for index, each in enumerate(verdicts) if isinstance(each, Invalid)] == [1]
    assert all(
        not isinstance(each, Invalid)
        for each in parse_events(b"[" + b",".join([good] * 6000) + b"]", RECEIVED_MS, LIMITS)
    )


CLOUD: dict[str, Any] = {
    "specversion": "1.0",
    "id": "evt-1",
    "source": "gateway-3",
    "type": "api.request",
    "subject": "acme",
    "time": "2026-11-22T09:59:59.123Z",
    "traceparent": "00-ab",
    "data": {"tokens": 5},
}


def test_a_cloudevent_is_mapped_and_its_extensions_ignored() -> None:
    event = parse_cloudevent(msgspec.json.encode(CLOUD), RECEIVED_MS, LIMITS)
    plain = body(source="gateway-3", time="2026-11-22T09:59:59.123Z", properties={"tokens": 5})
    assert encode_event(event) == encode_event(parse_event(plain, RECEIVED_MS, LIMITS))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"specversion": "0.3"}, "specversion_unsupported"),
        ({"subject": ...}, "field_missing"),
        ({"source": ...}, "field_missing"),
        ({"data": "text"}, "properties_not_an_object"),
        ({"data_base64": "AA=="}, "data_not_json"),
        ({"id": ""}, "empty_field"),
        ({"time": "2020-01-01T00:00:00Z"}, "event_too_old"),
    ],
)
def test_a_bad_cloudevent_is_refused_with_its_code(change: dict[str, Any], expected: str) -> None:
    fields = {name: value for name, value in (CLOUD | change).items() if value is not ...}
    with pytest.raises(Invalid) as refused:
        parse_cloudevent(msgspec.json.encode(fields), RECEIVED_MS, LIMITS)
    assert refused.value.code == expected
