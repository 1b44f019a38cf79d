"""Value expressions: what their grammar takes, what they come to, and what is an issue of the meter."""

import re
from decimal import Decimal
from pathlib import Path

import pytest

from domain.errors import Invalid
from domain.events import decode_properties
from domain.expressions import (
    MAX_EXPRESSION_DEPTH,
    MAX_EXPRESSION_LENGTH,
    compile_expression,
    compile_reads,
    parse_expression,
)

PROPERTIES = decode_properties(
    '{"a": 7, "b": "2.5", "n": -3, "zero": 0, "none": null, "word": "abc", "yes": true, "list": [1], "long": 1e26,'
    ' "fine": 0.1234567890123, "usage": {"in": 4, "out": {"x": 1.25}}, "gen_ai.tokens": 9, "tokens-in": 11, "min": 5}'
)


def value(text: str) -> int | Decimal | None:
    return compile_expression(text)(PROPERTIES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", "7"),
        ("b", "2.5"),
        ("usage.in + usage.out.x", "5.25"),
        ("a + b * 2", "12"),
        ("(a + b) * 2", "19"),
        ("a - 3 - 2", "2"),
        ("a - (3 - 2)", "6"),
        ("a / 2 / 7", "0.5"),
        ("a / 2 * 7", "24.5"),
        ("-a + 10", "3"),
        ("a * -2", "-14"),
        ("--a", "7"),
        ("-+-a", "7"),
        ("a-1", "6"),
        ("a * 1.5e-3", "0.0105"),
        ("a*1E2", "700"),
        ("`gen_ai.tokens` + `tokens-in`", "20"),
        ("usage.`in`", "4"),
        ("min + 1", "6"),
        ("min(a, b, n)", "-3"),
        ("max(a, b, n)", "7"),
        ("max(n, 0)", "0"),
        ("coalesce(none, missing, a)", "7"),
        ("coalesce(a, word)", "7"),
        ("abs(n)", "3"),
        ("ceil(b)", "3"),
        ("floor(b)", "2"),
        ("ceil(-b)", "-2"),
        ("floor(-b)", "-3"),
        ("ceil(a / 60) * 60", "60"),
        ("\n a\t+ b ", "9.5"),
    ],
)
def test_an_expression_is_the_arithmetic_it_spells(text: str, expected: str) -> None:
    assert value(text) == Decimal(expected)


def test_nothing_is_rounded_before_the_end_and_there_once_half_away_from_zero() -> None:
    assert value("a / 3 * 3") == 7
    assert value("a / 3") == Decimal("2.333333333333")
    assert value("-a * 2 / 3") == Decimal("-4.666666666667")
    assert value("a / 2 / 1000000000000") == Decimal("0.000000000004")
    assert value("n / 2 / 1000000000000") == Decimal("-0.000000000002")
    assert value("(a / 3 - a / 3) * 99999999999999999999999999") == 0


@pytest.mark.parametrize("text", ["none", "missing", "a + missing", "missing / a", "min(a, none)", "abs(none)"])
def test_a_property_that_is_missing_or_null_leaves_no_value(text: str) -> None:
    assert value(text) is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("word", "not_a_number"),
        ("a + yes", "not_a_number"),
        ("list * 2", "not_a_number"),
        ("usage", "not_a_number"),
        ("coalesce(word, 0)", "not_a_number"),
        ("missing + word", "not_a_number"),
        ("word * none", "not_a_number"),
        ("max(none, word)", "not_a_number"),
        ("long", "quantity_out_of_range"),
        ("fine", "too_many_fraction_digits"),
        ("a * 1e20 * 1e20", "quantity_out_of_range"),
        ("99999999999999999999999999 + 0.999999999999 + a / 7000000000000 - 0", "quantity_out_of_range"),
        ("99999999999999999999999999.999999999999 + a / 14000000000000", "quantity_out_of_range"),
        ("a / zero", "division_by_zero"),
        ("a / (b - 2.5)", "division_by_zero"),
        ("none / zero", "division_by_zero"),
    ],
)
def test_what_has_no_usable_value_is_an_issue_and_never_zero(text: str, code: str) -> None:
    read = compile_expression(text)
    with pytest.raises(Invalid) as issue:
        read(PROPERTIES)
    assert issue.value.code == code


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "at character 1"),
        ("a +", "the expression ends at character 4"),
        ("a b", "at character 3"),
        ("(a", "where '\\)' should be"),
        ("a)", "at character 2"),
        ("a..b", "at character 3"),
        ("a.1", "at character 3"),
        (".5 * a", "at character 1"),
        ("a # 2", "at character 3"),
        ("a ** 2", "at character 4"),
        ("`a", "at character 1"),
        ("``", "at character 1"),
        ("size(a)", "at character 1 is none of the functions"),
        ("min(a)", "two values or more"),
        ("abs(a, b)", "one value"),
        ("max()", "at character 5"),
        ("a + 1e26", "at character 5"),
        ("a + 0.1234567890123", "at character 5"),
        ("2e * a", "at character 2"),
        ("1 + 2", "at least one property"),
        ("a / 0.0", "divides by zero, at character 5"),
        ("a ± 1", "at character 3"),
        ("a\x00", "at character 2"),
    ],
)
def test_what_is_no_expression_is_refused_and_the_place_is_named(text: str, where: str) -> None:
    with pytest.raises(Invalid, match=where) as refused:
        parse_expression(text)
    assert refused.value.code == "expression_malformed"


def test_length_and_depth_are_bounded_and_chains_are_no_depth() -> None:
    chain = "+".join("a" * (MAX_EXPRESSION_LENGTH // 2))
    assert value(chain) == 7 * (MAX_EXPRESSION_LENGTH // 2)
    assert value("-" * (MAX_EXPRESSION_LENGTH - 1) + "a") == -7
    with pytest.raises(Invalid) as too_long:
        parse_expression(chain + "+a")
    assert too_long.value.code == "expression_too_long"
    deepest = MAX_EXPRESSION_DEPTH - 1
    assert value("(" * deepest + "a" + ")" * deepest) == 7
    with pytest.raises(Invalid) as too_deep:
        parse_expression("(" * (deepest + 1) + "a" + ")" * (deepest + 1))
    assert too_deep.value.code == "expression_too_deep"
    with pytest.raises(Invalid):
        parse_expression("-(" * 400 + "a" + ")" * 199)


def test_the_examples_of_the_guide_are_expressions() -> None:
    page = (Path(__file__).parents[2] / "docs" / "numbers.md").read_text()
    section = page.split("### Value expressions")[1].split("```")[0]
    spelled = re.findall(r"`([^`]+)`", section)
    assert len(spelled) == 2
    properties = {"usage": {"in": 1, "out": 2}, "duration_ms": 90_000}
    assert [compile_expression(text)(properties) for text in spelled] == [9, 2]


def test_what_an_expression_reads_is_shown_as_it_is_written() -> None:
    read = compile_reads("ceil(usage.in / 4) + coalesce(-usage.`in`, `gen_ai.tokens`, missing) * 2")
    assert read(PROPERTIES) == {"usage.in": 4, "`gen_ai.tokens`": 9, "missing": None}
    assert read({"other": 1}) is None
