"""A stream's fold is the one-shot fold; a verdict on arbitrary JSON is an event or a refusal."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.aggregates import EMPTY, LogPosition, add, fold, merge, value
from domain.errors import Invalid
from domain.events import (
    decode_properties,
    encode_event,
    encode_properties,
    event_time_ms,
    parse_cloudevent,
    parse_event,
    parse_events,
)
from domain.meters import Issue, Match, compile_meters
from domain.sound_records import read_sound
from schemas.catalog import TenantLimits
from schemas.events import UsageEvent
from schemas.meters import Aggregation, Meter, MeterFilter

LIMITS = TenantLimits()
AGGREGATIONS: tuple[Aggregation, ...] = ("count", "sum", "min", "max", "avg", "latest", "unique_count")
Placed = tuple[Match, int, LogPosition]

values = st.decimals(min_value=-(10**25), max_value=10**25, places=12, allow_nan=False)
matches: st.SearchStrategy[Match] = st.one_of(
    st.tuples(st.just(0), values, st.just(""), st.just(())),
    st.tuples(st.just(0), st.none(), st.sampled_from(["a", "b", "c"]), st.just(())),
)
positions: st.SearchStrategy[LogPosition] = st.tuples(
    st.integers(0, 3), st.integers(0, 2), st.integers(0, 9), st.integers(0, 9)
)
streams = st.lists(st.tuples(matches, st.integers(0, 5), positions), max_size=25, unique_by=lambda placed: placed[2])


@given(streams, st.randoms(use_true_random=False), st.integers(1, 5))
def test_a_stream_fold_equals_the_one_shot_fold_under_any_split_duplication_and_order(
    stream: list[Placed], random: Any, workers: int
) -> None:
    resent = stream + [random.choice(stream) for _ in range(5) if stream]
    random.shuffle(resent)
    states, seen = [EMPTY] * workers, set[LogPosition]()
    for match, time_ms, position in resent:
        if position in seen:  # a copy at the same position is the same event
            continue
        seen.add(position)
        worker = random.randrange(workers)
        states[worker] = add(states[worker], match, time_ms, position)
    random.shuffle(states)
    merged = EMPTY
    for state in states:
        merged = merge(merged, state)
    whole = fold(stream)
    assert merged == whole
    assert [value(merged, each) for each in AGGREGATIONS] == [value(whole, each) for each in AGGREGATIONS]


@given(streams)
def test_aggregates_are_what_their_names_say(stream: list[Placed]) -> None:
    state = fold(stream)
    numbers = [match[1] for match, _, _ in stream if match[1] is not None]
    assert value(state, "count") == len(stream)
    assert Fraction(value(state, "sum") or 0) == sum(map(Fraction, numbers))
    assert value(state, "min") == min(numbers, default=None)
    assert value(state, "max") == max(numbers, default=None)
    assert value(state, "unique_count") == len({match[2] for match, _, _ in stream if match[2]})
    newest = max(((at, position, match[1]) for match, at, position in stream if match[1] is not None), default=None)
    assert value(state, "latest") == (newest[2] if newest else None)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**70), 10**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["NaN", "1e5", "-0", "1.5", "1e999999999999999999999", "2026-11-22T10:00:00Z", "9" * 60]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(
    ["id", "source", "type", "customer", "time", "properties", "tenant", "specversion", "subject", "data", "x"]
)
almost_events = st.dictionaries(fields, json_values, max_size=8) | st.builds(
    lambda extra: {"id": "1", "type": "t", "customer": "c"} | extra, st.dictionaries(fields, json_values, max_size=3)
)


def encoded(document: Any) -> bytes:
    # ints beyond 64 bits are legal JSON that msgspec reads but does not write
    def plain(found: Any) -> Any:
        if isinstance(found, dict):
            return {key: plain(inner) for key, inner in found.items()}
        if isinstance(found, list):
            return [plain(inner) for inner in found]
        if isinstance(found, int) and not isinstance(found, bool):
            return msgspec.Raw(str(found).encode())
        return found

    return msgspec.json.encode(plain(document))


@given((almost_events | json_values).map(encoded) | st.binary(max_size=60), st.integers(0, 2**41))
def test_arbitrary_json_is_an_event_or_a_refusal_and_never_another_error(raw: bytes, received_at_ms: int) -> None:
    for parse in (parse_event, parse_cloudevent):
        try:
            event = parse(raw, received_at_ms, LIMITS)
        except Invalid:
            continue
        assert encode_event(parse_event(encode_event(event), received_at_ms, LIMITS)) == encode_event(event)


@given(st.lists(almost_events, max_size=5), st.integers(0, 2**41))
def test_a_body_is_judged_event_by_event(documents: list[Any], received_at_ms: int) -> None:
    raws = [encoded(document) for document in documents]
    verdicts = parse_events(b"[" + b",".join(raws) + b"]", received_at_ms, LIMITS)
    assert len(verdicts) == len(raws)
    for raw, verdict in zip(raws, verdicts, strict=True):
        if isinstance(verdict, Invalid):
            with pytest.raises(Invalid) as refused:
                parse_event(raw, received_at_ms, LIMITS)
            assert refused.value.code == verdict.code
        else:
            assert parse_event(raw, received_at_ms, LIMITS) == verdict


operators = st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte", "contains"])
scalars = st.text(max_size=5) | st.integers() | st.sampled_from(["1", "1.0", "NaN", "true"])
read_values = st.sampled_from([{"value_property": path} for path in ("a", "a.b", "c")]) | st.sampled_from(
    [
        {"value_expression": text}
        for text in (
            "a",
            "a + 2 * a.b",
            "a / c",
            "coalesce(c, d) * 0.5",
            "max(a, -c) - 1",
            "floor(a / 3)",
            "-a * a * c",
        )
    ]
)
definitions = st.builds(
    Meter,
    id=st.just("met_1"),
    key=st.just("m"),
    event_types=st.just(("t",)),
    aggregation=st.sampled_from(AGGREGATIONS),
    value_property=st.none(),
    value_expression=st.none(),
    filters=st.lists(
        st.builds(MeterFilter, property=st.sampled_from(["a", "a.b", "d"]), op=operators, value=scalars), max_size=2
    ).map(tuple),
    dimensions=st.sampled_from([(), ("a",), ("d", "a.b")]),
    non_negative=st.booleans(),
    value_required=st.booleans(),
)
meters = st.builds(lambda meter, value: replace(meter, **value), definitions, read_values)
names = st.sampled_from(["a", "b", "c", "d"])
properties = st.dictionaries(names, json_values | st.dictionaries(names, json_values, max_size=3), max_size=4)


@given(st.lists(meters, max_size=4), properties.map(encoded))
def test_evaluation_is_total_and_the_same_over_stored_events(definitions: list[Meter], raw: bytes) -> None:
    compiled, found = compile_meters(definitions), decode_properties(raw)
    outcome = compiled.evaluate("t", found)
    assert outcome == compiled.evaluate("t", decode_properties(encode_properties(found)))
    matched, issues = outcome
    assert not {match[0] for match in matched} & {issue[0] for issue in issues}
    for index, number, key, dimensions in matched:
        meter = compiled.meters[index]
        assert len(dimensions) == len(meter.dimensions)
        if meter.aggregation in {"count", "unique_count"}:
            assert number is None
            assert bool(key) is (meter.aggregation == "unique_count")
        else:
            assert number is not None
            assert abs(number) < 10**26
            assert (Fraction(number) * 10**12).denominator == 1
            assert not (meter.non_negative and number < 0)


@given(st.lists(meters, min_size=1, max_size=4), properties.map(encoded))
def test_a_meter_counts_the_same_alone_and_among_others(definitions: list[Meter], raw: bytes) -> None:
    found = decode_properties(raw)
    matched, issues = compile_meters(definitions).evaluate("t", found)
    for index, definition in enumerate(definitions):
        alone, alone_issues = compile_meters([definition]).evaluate("t", found)
        assert [match[1:] for match in matched if match[0] == index] == [match[1:] for match in alone]
        assert [code for at, code in issues if at == index] == [code for _, code in alone_issues]


small = st.integers(-5, 5) | st.integers(0, 99).map(str) | st.sampled_from(["1.50", "-3", "9" * 18, "9" * 19, 10**18])
plain_properties = st.dictionaries(names, small, max_size=4)


@given(
    st.lists(meters, max_size=4),
    st.lists(properties, max_size=5) | st.lists(plain_properties, max_size=5),
)
def test_many_events_match_as_each_does(definitions: list[Meter], documents: list[Any]) -> None:
    compiled, found = compile_meters(definitions), [decode_properties(encoded(one)) for one in documents]
    one_by_one = [compiled.evaluate("t", one) for one in found]
    matched: list[list[Match]] = [[] for _ in found]
    issues: list[list[Issue]] = [[] for _ in found]
    for column in compiled.columns("t", found):
        empty = [None] * len(column.rows)
        parts = zip(column.rows, column.values or empty, column.keys or empty, column.dimensions, strict=True)
        for row, number, key, dimensions in parts:
            matched[row].append((column.number, None if number is None else Decimal(number), key or "", dimensions))
        for row, code in column.issues:
            issues[row].append((column.number, code))
    assert list(zip(matched, issues, strict=True)) == one_by_one
    assert compiled.columns("u", found) == []


@given(st.lists(almost_events, max_size=5), st.integers(0, 2**41))
def test_a_sound_record_is_read_as_its_events_are_judged(documents: list[Any], received_at_ms: int) -> None:
    body = b"[" + b",".join(encoded(document) for document in documents) + b"]"
    columns = read_sound(body, received_at_ms, LIMITS)
    if columns is None:
        return
    verdicts = parse_events(body, received_at_ms, LIMITS)
    parts = zip(columns.id, columns.type, columns.customer, columns.source, columns.time, strict=True)
    assert [
        (one.id, one.type, one.customer, one.source, one.time) for one in verdicts if isinstance(one, UsageEvent)
    ] == [*parts]
    assert len(verdicts) == len(columns.id)
    for verdict, time_ms, found in zip(verdicts, columns.time_ms, columns.properties, strict=True):
        assert isinstance(verdict, UsageEvent)
        assert (event_time_ms(verdict, received_at_ms), verdict.properties) == (time_ms, found)
