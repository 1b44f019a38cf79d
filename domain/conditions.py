"""Filters of a meter, compiled (semantics, quantities and usage).

Numbers, and texts that spell numbers, compare as decimals; anything else as text. A missing property, and null is as
good as missing, satisfies only `ne`, `nin` and `exists: false`. An object or array has no text to compare.
"""

from collections.abc import Callable
from decimal import Decimal
from operator import ge, gt, le, lt
from typing import Any

from domain.errors import Invalid
from domain.properties import Properties, compile_path, scalar_text, validate_path
from domain.quantities import number_of
from schemas.meters import FilterScalar, MeterFilter

Condition = Callable[[Properties], bool]
Test = Callable[[Any], bool]

MAX_FILTER_VALUES = 1000

_ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {"gt": gt, "gte": ge, "lt": lt, "lte": le}


def validate_filter(condition: MeterFilter) -> None:
    """Raises Invalid `path_malformed` or `filter_value_mismatch` (the value does not suit the operator)."""
    validate_path(condition.property)
    value = condition.value
    match condition.op:
        case "in" | "nin":
            fits = isinstance(value, tuple) and 1 <= len(value) <= MAX_FILTER_VALUES
            wanted = f"a list of 1 to {MAX_FILTER_VALUES} values"
        case "exists":
            fits = value is None or isinstance(value, bool)
            wanted = "true or false"
        case "gt" | "gte" | "lt" | "lte":
            fits = isinstance(value, str | int) and not isinstance(value, bool)
            wanted = "one number or text"
        case _:
            fits = isinstance(value, str | int | bool)
            wanted = "one value"
    if not fits:
        raise Invalid("filter_value_mismatch", f"the operator {condition.op} takes {wanted}")


def compile_condition(condition: MeterFilter) -> Condition:
    """The filter (valid: `validate_filter`) as a function of an event's properties."""
    read, test, name = compile_path(condition.property), _compile_test(condition), condition.property
    if "." in name:
        return lambda properties: test(read(properties))
    return lambda properties: test(properties.get(name))


def _compile_test(condition: MeterFilter) -> Test:
    value = condition.value
    values: tuple[FilterScalar, ...] = value if isinstance(value, tuple) else () if value is None else (value,)
    match condition.op:
        case "eq" | "in":
            return _equals(values)
        case "ne" | "nin":
            equals = _equals(values)
            return lambda found: not equals(found)
        case "exists":
            wanted = value is not False
            return lambda found: (found is not None) is wanted
        case "contains":
            return _contains(values)
        case _:
            return _ordered(_ORDERINGS[condition.op], values[0])


def _equals(values: tuple[FilterScalar, ...]) -> Test:
    numbers: set[int | Decimal] = set()
    texts: set[str] = set()
    for value in values:
        number = number_of(value)
        if number is None:
            texts.add(scalar_text(value) or "")
        else:
            numbers.add(number)

    def among_texts(found: Any) -> bool:
        return found in texts if type(found) is str else scalar_text(found) in texts

    def among_both(found: Any) -> bool:
        number = number_of(found)
        # int and Decimal of one value are equal and hash alike, so the set compares numbers, not notations.
        return among_texts(found) if number is None else number in numbers

    return among_both if numbers else among_texts


def _ordered(compare: Callable[[Any, Any], bool], bound: FilterScalar) -> Test:
    bound_number, bound_text = number_of(bound), scalar_text(bound)

    def ordered(found: Any) -> bool:
        number = number_of(found)
        if number is not None and bound_number is not None:
            return compare(number, bound_number)
        text = scalar_text(found)
        return text is not None and compare(text, bound_text)

    return ordered


def _contains(values: tuple[FilterScalar, ...]) -> Test:
    """Of a text: as a part of it. Of an array: as one of its elements."""
    equals = _equals(values)
    part = scalar_text(values[0]) or ""

    def contains(found: Any) -> bool:
        if type(found) is list:
            return any(equals(item) for item in found)
        text = scalar_text(found)
        return text is not None and part in text

    return contains
