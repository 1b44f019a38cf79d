"""A compiled expression gives what a plain evaluator of the same tree gives, exactly."""

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from operator import add, mul, neg, sub, truediv
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Invalid
from domain.expressions import compile_expression
from domain.meters import compile_meters
from domain.quantities import format_quantity
from schemas.meters import Meter

# A tree is text and a plain meaning side by side: ("value", text, number or name) or (operator, parts).
Tree = tuple[Any, ...]

NAMES = ("a", "b", "c.d", "c.`e f`", "g")
numbers = st.decimals(min_value=0, max_value=10**6, places=4, allow_nan=False)
leaves = st.builds(lambda name: ("name", name), st.sampled_from(NAMES)) | st.builds(lambda n: ("number", n), numbers)


def _branches(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    binary = st.tuples(st.sampled_from("+-*/"), inner, inner)
    unary = st.tuples(st.sampled_from(["neg", "abs", "ceil", "floor"]), inner)
    many = st.builds(
        lambda name, parts: (name, *parts),
        st.sampled_from(["min", "max", "coalesce"]),
        st.lists(inner, min_size=2, max_size=3),
    )
    return binary | unary | many


trees: st.SearchStrategy[Tree] = st.recursive(leaves, _branches, max_leaves=8)
_BINDS = {"+": 1, "-": 1, "*": 2, "/": 2, "neg": 3}


def written(tree: Tree, binding: int = 0) -> str:
    """With no more brackets than precedence and order from left to right need."""
    kind = tree[0]
    if kind == "name":
        return str(tree[1])
    if kind == "number":
        return format_quantity(tree[1])
    if kind not in _BINDS:
        return f"{kind}({', '.join(written(part) for part in tree[1:])})"
    strength = _BINDS[kind]
    if kind == "neg":
        text = f"-{written(tree[1], strength)}"
    else:
        text = f"{written(tree[1], strength)} {kind} {written(tree[2], strength + 1)}"
    return f"({text})" if strength < binding else text


class Issue(Exception):  # noqa: N818
    pass


OPERATIONS: dict[str, Callable[..., Fraction]] = {
    "+": add,
    "-": sub,
    "*": mul,
    "/": truediv,
    "neg": neg,
    "min": min,
    "max": max,
    "abs": abs,
    "ceil": lambda value: Fraction(math.ceil(value)),
    "floor": lambda value: Fraction(math.floor(value)),
}


def leaf(kind: str, value: Any, properties: dict[str, Any]) -> Fraction | None:
    found = value if kind == "number" else properties.get(value)
    if isinstance(found, str):
        raise Issue
    return None if found is None else Fraction(found)


def plain(tree: Tree, properties: dict[str, Any]) -> Fraction | None:
    kind, *parts = tree
    if kind in {"name", "number"}:
        return leaf(kind, parts[0], properties)
    if kind == "coalesce":
        return next((found for found in (plain(part, properties) for part in parts) if found is not None), None)
    values = [plain(part, properties) for part in parts]
    if kind == "/" and values[1] == 0:
        raise Issue
    return None if None in values else OPERATIONS[kind](*values)


def rounded(value: Fraction) -> Decimal:
    """Half away from zero to 12 digits, in whole numbers."""
    scaled = abs(value) * 10**12
    whole = math.floor(scaled + Fraction(1, 2))
    return Decimal(whole if value >= 0 else -whole).scaleb(-12)


found_values = (
    st.none()
    | st.integers(-(10**6), 10**6)
    | st.sampled_from([0, 1, Decimal("0.5"), "abc"])
    | st.decimals(min_value=-(10**6), max_value=10**6, places=6, allow_nan=False)
)


@given(trees, st.lists(found_values, min_size=len(NAMES), max_size=len(NAMES)))
def test_a_compiled_expression_agrees_with_a_plain_evaluator(tree: Tree, values: list[Any]) -> None:
    text = f"{written(('*', tree, ('number', Decimal(1))))} + 0 * coalesce(a, b, 0)"
    by_name = dict(zip(NAMES, values, strict=True))
    flat = {"a": by_name["a"], "b": by_name["b"], "g": by_name["g"]}
    properties = {**flat, "c": {"d": by_name["c.d"], "e f": by_name["c.`e f`"]}}
    try:
        expected = plain(tree, by_name)
        plain(("coalesce", ("name", "a"), ("name", "b")), by_name)
        usable = expected is None or abs(rounded(expected)) < 10**26
    except Issue:
        usable = False
    try:
        found = compile_expression(text)(properties)
    except Invalid:
        assert not usable
        return
    assert usable
    assert found == (None if expected is None else rounded(expected))


REFUSALS = {"expression_malformed", "expression_too_deep", "division_by_zero", "quantity_out_of_range", "not_a_number"}


@given(st.text(max_size=40) | st.text(alphabet="ab1.+-*/(),`e ", max_size=30))
def test_any_text_has_a_quantity_or_none_or_is_refused(text: str) -> None:
    try:
        found = compile_expression(text)({"a": 3, "b": Decimal("0.25")})
    except Invalid as refused:
        if refused.code not in REFUSALS:
            raise
        return
    assert found is None or -(10**26) < found < 10**26


METER = compile_meters(
    [Meter(id="met_1", key="m", event_types=("t",), aggregation="sum", value_property="a.b", value_required=True)]
)
scalars = (
    found_values
    | st.booleans()
    | st.lists(st.integers(), max_size=1)
    | st.sampled_from(["12", "1e3", "-0.5", "1e26", "9" * 26, "0.1234567890123", "NaN", "", 10**26, Decimal("1e-13")])
)


@given(st.dictionaries(st.just("a"), scalars | st.dictionaries(st.just("b"), scalars)))
def test_an_expression_of_one_property_counts_as_the_property_does(properties: dict[str, Any]) -> None:
    matches, issues = METER.evaluate("t", properties)
    try:
        found = compile_expression("a.b")(properties)
    except Invalid as invalid:
        assert (matches, issues) == ([], [(0, invalid.code)])  # noqa: PT017 - either way is right, the same way is
        return
    if found is None:
        assert (matches, issues) == ([], [(0, "value_missing")])
    else:
        assert (matches, issues) == ([(0, found, "", ())], [])
