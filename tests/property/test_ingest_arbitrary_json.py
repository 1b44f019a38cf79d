"""Whatever is posted: documented codes only, never an exception; and what is accepted the worker accepts as well."""

import gzip
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from api.errors import HttpError
from api.ingest_body import Encoding, Format, Inflight, Reservation, decode_body
from api.ingest_parse import Judge, Verdicts, judge_events, split_body
from domain.errors import Invalid
from domain.events import parse_events
from domain.identity import event_identity, partition_of
from schemas.catalog import TenantLimits
from schemas.events import UsageEvent

NOW_MS = 1_795_000_000_000
LIMITS = TenantLimits()
PARTITIONS = 4
EVENTS_MAX = 20
BODY_MAX = 1 << 20

BODY_CODES = {"malformed_json", "too_deep", "no_events", "body_too_large", "malformed_encoding", "rate_limited"}
EVENT_CODES = {
    "malformed_json",
    "not_an_object",
    "field_missing",
    "wrong_type",
    "unknown_field",
    "properties_not_an_object",
    "time_malformed",
    "time_without_zone",
    "empty_field",
    "field_too_long",
    "invalid_character",
    "event_too_large",
    "too_deep",
    "number_too_long",
    "event_too_old",
    "event_in_future",
    "specversion_unsupported",
    "data_not_json",
    "unknown_customer",
}

forms = st.sampled_from(get_args(Format))
encodings = st.sampled_from(get_args(Encoding))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5), max_leaves=20
)
names = st.sampled_from(
    ["id", "type", "customer", "source", "time", "properties", "tenant", "specversion", "subject", "data", "x"]
)
times = st.sampled_from(["2026-11-18T00:00:00Z", "2026-11-18T00:00:00", "2020-01-01T00:00:00Z", "2036-01-01T00:00:00Z"])
almost_events = st.fixed_dictionaries(
    {"id": st.text(min_size=1), "type": st.just("t"), "customer": st.text(min_size=1)},
    optional={"time": times, "properties": st.dictionaries(st.text(), values, max_size=4), "source": st.text()},
)
things = almost_events | st.dictionaries(names, values, max_size=8) | values


def judge() -> Judge:
    return Judge(
        tenant="acme",
        environment="live",
        received_at_ms=NOW_MS,
        limits=LIMITS,
        partitions=PARTITIONS,
        knows_customer=lambda _: True,
    )


def verdicts_on(body: bytes, form: Format) -> tuple[int, Verdicts] | str:
    """How many events there were and the verdicts, or the code that refused the body."""
    try:
        events = split_body(body, form, EVENTS_MAX)
    except (Invalid, HttpError) as error:
        return error.code
    verdicts = Verdicts()
    judge_events(events, form, judge(), verdicts, 0)
    return len(events), verdicts


def check(body: bytes, form: Format) -> None:
    found = verdicts_on(body, form)
    if isinstance(found, str):
        assert found in BODY_CODES
        return
    count, verdicts = found
    assert verdicts.accepted + len(verdicts.rejected) == count <= EVENTS_MAX
    assert {one.code for one in verdicts.rejected} <= EVENT_CODES
    assert sum(len(group) for group in verdicts.groups.values()) == verdicts.accepted
    for partition, group in verdicts.groups.items():
        # protocol 7: a 202 is never rejected later; this is what the worker does with the record.
        for event in parse_events(b"[%b]" % b",".join(group), NOW_MS, LIMITS):
            assert isinstance(event, UsageEvent)
            assert partition_of(event_identity("acme", "live", event.source, event.id), PARTITIONS) == partition


@given(st.binary(max_size=300), forms)
def test_arbitrary_bytes_get_a_documented_code(body: bytes, form: Format) -> None:
    check(body, form)


@given(things | st.lists(things, max_size=25), forms)
def test_arbitrary_json_gets_one_verdict_an_event(value: Any, form: Format) -> None:
    if form == "ndjson":
        check(b"\n".join(msgspec.json.encode(one) for one in (value if isinstance(value, list) else [value])), form)
    else:
        check(msgspec.json.encode(value), form)


edges = st.sampled_from([-LIMITS.max_event_age_s, LIMITS.max_event_ahead_s])
sound_times = st.builds(
    lambda edge, past, zone: (
        (datetime.fromtimestamp(NOW_MS / 1000, UTC) + timedelta(seconds=edge, microseconds=past)).isoformat()[:-6]
        + zone
    ),
    edges | st.integers(-LIMITS.max_event_age_s + 5, LIMITS.max_event_ahead_s - 5),
    st.sampled_from([-1001, -1000, -1, 0, 1, 999, 1000, 1001]),
    st.sampled_from(["Z", "+00:00", "-00:00", ""]),
)
mostly_sound = st.fixed_dictionaries(
    {"id": st.text("abc\u00e9\x7f\u200b", min_size=1), "type": st.sampled_from(["t", "u", "", "t" * 256])},
    optional={
        "time": sound_times,
        "source": st.sampled_from(["", "s", "s" * 255, "s" * 256]),
        "properties": st.dictionaries(st.text(max_size=3), values, max_size=4),
        "tenant": st.sampled_from(["", "other"]),
    },
).map(lambda event: {"customer": "c", **event})
plainly_sound = st.builds(
    lambda number, source, time: {"id": f"e{number}", "source": source, "type": "t", "customer": "c", **time},
    st.integers(),
    st.sampled_from(["", "s", "\u00e9"]),
    st.sampled_from([{}, {"time": "2026-11-18T00:00:00Z"}, {"time": "2026-11-18T00:00:00.123456789+02:00"}]),
)


@given(st.lists(plainly_sound | mostly_sound, min_size=4, max_size=8) | st.lists(plainly_sound, min_size=4, max_size=8))
def test_a_batch_gets_the_verdicts_that_its_events_get_one_by_one(events: list[Any]) -> None:
    raws = split_body(msgspec.json.encode(events), "json", EVENTS_MAX)
    together, apart = Verdicts(), Verdicts()
    judge_events(raws, "json", judge(), together, 0)
    for index, raw in enumerate(raws):
        judge_events([raw], "json", judge(), apart, index)
    assert (together.accepted, together.rejected) == (apart.accepted, apart.rejected)
    assert {partition: read(group) for partition, group in together.groups.items()} == {
        partition: read(group) for partition, group in apart.groups.items()
    }


def read(group: list[bytes | msgspec.Raw]) -> list[UsageEvent | Invalid]:
    return parse_events(b"[%b]" % b",".join(group), NOW_MS, LIMITS)


@given(st.lists(almost_events, min_size=1, max_size=5), st.binary(max_size=20), st.integers(0, 400))
def test_a_damaged_body_of_events_gets_a_documented_code(events: list[Any], junk: bytes, at: int) -> None:
    body = msgspec.json.encode(events)
    for form in get_args(Format):
        check(body[:at] + junk + body[at + 1 :], form)


@given(st.binary(max_size=300), encodings)
def test_arbitrary_bytes_decode_or_get_a_documented_code(body: bytes, encoding: Encoding) -> None:
    for sent in (body, gzip.compress(body)[:-1], gzip.compress(body) + body):
        inflight = Inflight(BODY_MAX)
        with Reservation(inflight) as reservation:
            assert outcome(sent, encoding, reservation) in {"decoded", *BODY_CODES}
        assert inflight.used_bytes == 0


def outcome(body: bytes, encoding: Encoding, reservation: Reservation) -> str:
    try:
        decoded = decode_body(body, encoding, reservation, BODY_MAX)
    except (Invalid, HttpError) as error:
        return error.code
    return "decoded" if len(decoded) <= BODY_MAX else "decoded, and too large"
