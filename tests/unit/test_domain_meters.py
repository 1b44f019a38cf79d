from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from domain.aggregates import fold, value
from domain.errors import Invalid
from domain.events import decode_properties
from domain.meter_rules import check_billable, check_limited, validate_meter
from domain.meters import CompiledMeters, compile_meters
from schemas.meters import Aggregation, FilterOp, FilterScalar, Meter, MeterFilter, MeterSpec
from tests.support.refusals import refusal_of

D = Decimal


def meter(aggregation: Aggregation = "sum", **changes: Any) -> Meter:
    path = None if aggregation == "count" else "value"
    fields: dict[str, Any] = {"id": "met_1", "key": "m", "event_types": ("t",), "value_property": path}
    return Meter(**(fields | {"aggregation": aggregation} | changes))


def test_only_the_meters_of_the_event_type_are_evaluated() -> None:
    compiled = compile_meters([meter("count"), meter("count", event_types=("u", "t")), meter(event_types=("v",))])
    assert compiled.evaluate("t", {}) == ([(0, None, "", ()), (1, None, "", ())], [])
    assert compiled.evaluate("u", {}) == ([(1, None, "", ())], [])
    assert compiled.evaluate("w", {"value": 1}) == ([], [])


@pytest.mark.parametrize(
    ("json", "quantity"),
    [
        ('{"value": 7}', "7"),
        ('{"value": 7.25}', "7.25"),
        ('{"value": "7.25"}', "7.25"),
        ('{"value": 0.1}', "0.1"),
        ('{"value": 1E2}', "100"),
        ('{"value": -3}', "-3"),
        ('{"value": 12345678901234567890123456.123456789012}', "12345678901234567890123456.123456789012"),
        ('{"value": 1.0000000000000000}', "1"),
    ],
)
def test_numbers_are_read_as_decimals_and_numeric_texts_count(json: str, quantity: str) -> None:
    ((_, number, _, _),), issues = compile_meters([meter()]).evaluate("t", decode_properties(json))
    assert (number, issues) == (D(quantity), [])


@pytest.mark.parametrize(
    ("json", "code"),
    [
        ('{"value": "abc"}', "not_a_number"),
        ('{"value": ""}', "not_a_number"),
        ('{"value": "NaN"}', "not_a_number"),
        ('{"value": "-Infinity"}', "not_a_number"),
        ('{"value": true}', "not_a_number"),
        ('{"value": []}', "not_a_number"),
        ('{"value": {"a": 1}}', "not_a_number"),
        ('{"value": 1e9999999999999999999999}', "not_a_number"),
        ('{"value": 100000000000000000000000000}', "quantity_out_of_range"),
        ('{"value": ' + "9" * 60 + "}", "quantity_out_of_range"),
        ('{"value": 1e26}', "quantity_out_of_range"),
        ('{"value": 0.0000000000001}', "too_many_fraction_digits"),
    ],
)
def test_an_unusable_value_is_an_issue_and_no_match(json: str, code: str) -> None:
    assert compile_meters([meter()]).evaluate("t", decode_properties(json)) == ([], [(0, code)])


def test_a_null_or_missing_value_is_skipped_by_all_but_count() -> None:
    for properties in ({}, {"value": None}):
        for aggregation in ("sum", "min", "max", "avg", "latest", "unique_count"):
            assert compile_meters([meter(aggregation)]).evaluate("t", properties) == ([], [])
            required = compile_meters([meter(aggregation, value_required=True)])
            assert required.evaluate("t", properties) == ([], [(0, "value_missing")])
        assert compile_meters([meter("count")]).evaluate("t", properties)[0] == [(0, None, "", ())]


def test_negative_values_are_an_issue_only_where_the_meter_says_so() -> None:
    properties = {"value": D("-0.5")}
    assert compile_meters([meter()]).evaluate("t", properties)[1] == []
    assert compile_meters([meter(non_negative=True)]).evaluate("t", properties) == ([], [(0, "value_negative")])


@pytest.mark.parametrize(
    ("found", "key"),
    [("x", "x"), (1, "1"), (D("1.0"), "1"), (True, "true"), ("1.0", "1.0")],
)
def test_a_unique_value_is_its_text(found: object, key: str) -> None:
    assert compile_meters([meter("unique_count")]).evaluate("t", {"value": found}) == ([(0, None, key, ())], [])


def test_an_object_is_no_unique_value_and_the_empty_text_is_none() -> None:
    compiled = compile_meters([meter("unique_count", value_required=True)])
    assert compiled.evaluate("t", {"value": []}) == ([], [(0, "not_a_scalar")])
    assert compiled.evaluate("t", {"value": ""}) == ([], [(0, "value_missing")])


def test_paths_step_into_objects_and_a_missing_dimension_is_the_empty_text() -> None:
    compiled = compile_meters([meter(value_property="a.b.c", dimensions=("region", "a.zone", "list", "a.n"))])
    properties = decode_properties('{"a": {"b": {"c": 5}, "zone": "z", "n": 1.50}, "list": [1, {"b": 2.0, "a": null}]}')
    dimensions = ("", "z", '[1,{"a":null,"b":2.0}]', "1.5")
    assert compiled.evaluate("t", properties) == ([(0, D(5), "", dimensions)], [])
    for blocked in ({}, {"a": 1}, {"a": {"b": [1]}}, {"a": {"b": "c"}}):
        assert compiled.evaluate("t", blocked) == ([], [])


HOLDS: list[tuple[FilterOp, FilterScalar | tuple[FilterScalar, ...] | None, str, bool]] = [
    ("eq", "large", '"large"', True),
    ("eq", "large", '"Large"', False),
    ("eq", "200", "200", True),
    ("eq", 200, '"200.0"', True),
    ("eq", "0.1", "0.10", True),
    ("eq", "1" + "0" * 40, "1e40", True),
    ("eq", True, "true", True),
    ("eq", "true", "true", True),
    ("eq", 1, "true", False),
    ("eq", "x", "null", False),
    ("eq", "{}", "{}", False),
    ("ne", "x", "null", True),
    ("ne", "x", '"x"', False),
    ("ne", "x", "[1]", True),
    ("in", ("a", 1), '"a"', True),
    ("in", ("a", 1), "1.0", True),
    ("in", ("a", 1), '"b"', False),
    ("in", ("a", 1), "null", False),
    ("nin", ("a", 1), "null", True),
    ("nin", ("a", 1), '"1"', False),
    ("gt", "9", "10", True),
    ("gt", "9", '"10"', True),
    ("gt", "9a", '"10"', False),
    ("gt", 9, "9", False),
    ("gte", 9, "9.0", True),
    ("lt", "b", '"a"', True),
    ("lt", "0", "null", False),
    ("lt", "0", "[]", False),
    ("lte", "0.5", "0.5", True),
    ("contains", "err", '"an error"', True),
    ("contains", "err", '"fine"', False),
    ("contains", "a", '["b", "a"]', True),
    ("contains", 1, "[1.0]", True),
    ("contains", "23", "1234", True),
    ("contains", "a", '{"a": 1}', False),
    ("contains", "a", "null", False),
    ("exists", None, "0", True),
    ("exists", True, "null", False),
    ("exists", False, "null", True),
    ("exists", False, "false", False),
]


@pytest.mark.parametrize(("op", "wanted", "found", "holds"), HOLDS)
def test_a_filter_compares_numbers_as_decimals_else_text(
    op: FilterOp, wanted: FilterScalar | tuple[FilterScalar, ...] | None, found: str, *, holds: bool
) -> None:
    compiled = compile_meters([meter("count", filters=(MeterFilter(property="p.q", op=op, value=wanted),))])
    properties = decode_properties(f'{{"p": {{"q": {found}}}}}')
    assert bool(compiled.evaluate("t", properties)[0]) is holds


def test_a_missing_property_satisfies_only_ne_nin_and_not_exists() -> None:
    holding = {
        (op, wanted)
        for op, wanted, _, _ in HOLDS
        if compile_meters([meter("count", filters=(MeterFilter(property="p", op=op, value=wanted),))]).evaluate(
            "t", {}
        )[0]
    }
    assert {op for op, _ in holding} == {"ne", "nin", "exists"}
    assert {wanted for op, wanted in holding if op == "exists"} == {False}


def test_all_filters_must_hold() -> None:
    filters = (MeterFilter(property="a", op="eq", value="1"), MeterFilter(property="b", op="exists"))
    compiled = compile_meters([meter("count", filters=filters)])
    assert compiled.evaluate("t", {"a": 1, "b": 2})[0]
    assert not compiled.evaluate("t", {"a": 1})[0]
    assert not compiled.evaluate("t", {"a": 2, "b": 2})[0]


def test_an_empty_range_is_zero_for_sums_and_counts_and_nothing_for_the_others() -> None:
    empty = fold([])
    aggregations: tuple[Aggregation, ...] = ("count", "unique_count", "sum", "min", "max", "avg", "latest")
    assert [value(empty, each) for each in aggregations] == [D(0), D(0), D(0), None, None, None, None]


def test_the_latest_value_is_the_newest_and_ties_go_to_the_later_position() -> None:
    matches = [
        ((0, D(1), "", ()), 100, (5, 0, 7, 0)),
        ((0, D(2), "", ()), 100, (5, 0, 7, 1)),
        ((0, D(3), "", ()), 99, (9, 0, 9, 0)),
    ]
    for order in (matches, matches[::-1]):
        assert value(fold(order), "latest") == D(2)


def test_an_average_is_rounded_to_twelve_digits() -> None:
    matches = [((0, D(number), "", ()), 0, (0, 0, number, 0)) for number in (1, 1, 0)]
    assert value(fold(matches), "avg") == D("0.666666666667")


GOOD: dict[str, Any] = {"key": "tokens", "event_types": ("t",), "aggregation": "sum", "value_property": "n"}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"key": ""}, "/key key_malformed"),
        ({"key": "a b"}, "/key key_malformed"),
        ({"event_types": ()}, "/event_types event_types_missing"),
        ({"event_types": ("t", "t")}, "/event_types event_types_missing"),
        ({"event_types": ("",)}, "/event_types/0 event_type_malformed"),
        ({"value_property": None}, "/value_property value_property_missing"),
        ({"value_property": "a..b"}, "/value_property path_malformed"),
        ({"aggregation": "count"}, "/value_property value_property_unused"),
        (
            {"aggregation": "count", "value_property": None, "value_expression": "a + b"},
            "/value_expression value_property_unused",
        ),
        ({"value_expression": "a + b"}, "/value_expression value_ambiguous"),
        ({"value_property": None, "value_expression": ""}, "/value_expression expression_malformed"),
        ({"value_property": None, "value_expression": "a +"}, "/value_expression expression_malformed"),
        ({"value_property": None, "value_expression": "a" * 1001}, "/value_expression expression_too_long"),
        (
            {"value_property": None, "value_expression": "(" * 40 + "a" + ")" * 40},
            "/value_expression expression_too_deep",
        ),
        ({"percent": 90}, "/percent percent_unused"),
        ({"carry": False}, "/carry carry_unused"),
        ({"aggregation": "weighted_sum", "value_property": None}, "/value_property value_property_missing"),
        ({"dimensions": ("a", "a")}, "/dimensions dimension_repeated"),
        ({"dimensions": ("",)}, "/dimensions/0 path_malformed"),
        ({"dimensions": tuple(f"d{n}" for n in range(17))}, "/dimensions too_many_dimensions"),
        ({"filters": (MeterFilter(property="a", op="in", value="b"),)}, "/filters/0 filter_value_mismatch"),
        ({"filters": (MeterFilter(property="a", op="eq"),)}, "/filters/0 filter_value_mismatch"),
        ({"filters": (MeterFilter(property="a", op="gt", value=True),)}, "/filters/0 filter_value_mismatch"),
        ({"filters": (MeterFilter(property="a", op="exists", value="x"),)}, "/filters/0 filter_value_mismatch"),
        ({"filters": (MeterFilter(property="", op="exists"),)}, "/filters/0 path_malformed"),
    ],
)
def test_a_wrong_meter_is_refused_with_the_place(change: dict[str, Any], error: str) -> None:
    validate_meter(MeterSpec(**GOOD))
    with pytest.raises(Invalid) as refused:
        validate_meter(MeterSpec(**(GOOD | change)))
    assert error in [f"{each.pointer} {each.code}" for each in refused.value.details]


def computed(expression: str, aggregation: Aggregation = "sum", **changes: Any) -> CompiledMeters:
    return compile_meters([meter(aggregation, value_property=None, value_expression=expression, **changes)])


def test_an_expression_is_counted_as_its_value() -> None:
    compiled = computed("usage.in + 4 * usage.out / 3")
    properties = decode_properties('{"usage": {"in": "7", "out": 2}}')
    assert compiled.evaluate("t", properties) == ([(0, D("9.666666666667"), "", ())], [])
    ((column),) = compiled.columns("t", [properties, {}])
    assert (list(column.rows), column.values, column.issues) == ([0], [D("9.666666666667")], [])


def test_whole_values_of_an_expression_are_summed_as_words() -> None:
    (column,) = computed("a * 2").columns("t", [{"a": 3}, {"a": "0.5"}])
    assert column.integers
    assert column.values == [6, 1]


@pytest.mark.parametrize(
    ("properties", "code"),
    [
        ('{"a": 1, "b": 0}', "division_by_zero"),
        ('{"a": "x", "b": 1}', "not_a_number"),
        ('{"a": [], "b": 1}', "not_a_number"),
        ('{"a": 1e25, "b": 0.01}', "quantity_out_of_range"),
        ('{"a": 0.1234567890123, "b": 1}', "too_many_fraction_digits"),
        ('{"a": -1, "b": 1}', "value_negative"),
        ('{"a": 1}', "value_missing"),
        ('{"a": null, "b": 0}', "division_by_zero"),
    ],
)
def test_an_expression_without_a_usable_value_is_an_issue_and_no_match(properties: str, code: str) -> None:
    found = decode_properties(properties)
    compiled = computed("a / b", non_negative=True, value_required=True)
    assert compiled.evaluate("t", found) == ([], [(0, code)])
    (column,) = compiled.columns("t", [{"a": 4, "b": 2}, found])
    assert (column.rows, column.values, column.issues) == ([0], [2], [(1, code)])


def test_an_expression_tells_unique_values_apart_as_numbers() -> None:
    compiled = computed("floor(at / 60)", "unique_count")
    events: list[dict[str, Any]] = [{"at": 59}, {"at": "60"}, {"at": D("119.5")}, {"at": "noon"}]
    assert [compiled.evaluate("t", one)[0] for one in events] == [[(0, None, key, ())] for key in ("0", "1", "1")] + [
        []
    ]
    (column,) = compiled.columns("t", events)
    assert (column.keys, column.issues) == (["0", "1", "1"], [(3, "not_a_number")])


def test_levels_and_percentiles_take_what_is_theirs() -> None:
    for own in ({"aggregation": "percentile", "percent": 99}, {"aggregation": "weighted_sum", "carry": False}):
        assert refusal_of(partial(validate_meter, MeterSpec(**(GOOD | own)))) is None


def test_a_percentile_is_never_billed_and_everything_else_is() -> None:
    aggregations: tuple[Aggregation, ...] = (
        "count",
        "unique_count",
        "sum",
        "min",
        "max",
        "avg",
        "latest",
        "weighted_sum",
    )
    for aggregation in aggregations:
        check_billable(meter(aggregation), "/prices/0/meter")
    with pytest.raises(Invalid) as refused:
        check_billable(meter("percentile"), "/prices/2/meter")
    (detail,) = refused.value.details
    assert (detail.pointer, detail.code) == ("/prices/2/meter", "meter_not_billable")


def test_only_what_balances_add_up_limits_a_feature() -> None:
    aggregations: tuple[Aggregation, ...] = ("count", "unique_count", "sum", "min", "max", "avg", "latest")
    for aggregation in aggregations:
        check_limited(meter(aggregation), "/meter")
    refused_ones: tuple[Aggregation, ...] = ("weighted_sum", "percentile")
    for aggregation in refused_ones:
        with pytest.raises(Invalid) as refused:
            check_limited(meter(aggregation), "/meter")
        assert refused.value.code == "meter_not_limited"
