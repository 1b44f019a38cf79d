"""From nodes to a function of an event's properties, made once a meter and called once an event.

Numbers are ratios of integers on the way, (numerator, denominator above 0), so nothing is rounded before the end: then
once, half away from zero, to the 12 digits of a quantity.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction

from domain.errors import Invalid
from domain.expressions.nodes import Call, Node, Number, Product, PropertyPath, Sum
from domain.expressions.parse import parse_expression
from domain.money import round_half_away
from domain.properties import Properties, compile_names
from domain.quantities import FRACTION_DIGITS, INTEGER_DIGITS, OUT_OF_RANGE, parse_quantity

DIVISION_BY_ZERO = "division_by_zero"

_LIMIT = 10**INTEGER_DIGITS

Ratio = tuple[int, int]
# None: a property that is missing or null is needed, so there is no value.
Evaluator = Callable[[Properties], Ratio | None]
ValueReader = Callable[[Properties], int | Decimal | None]


def compile_expression(text: str) -> ValueReader:
    """The value of `text` as a function of properties (as `domain.events.decode_properties` gives them).

    The function answers a quantity, whole numbers as int; None where a property that it needs is missing or null. It
    raises Invalid where the event has no usable value: `not_a_number`, `quantity_out_of_range`, `too_many_fraction_digits` (of a property),
    `quantity_out_of_range` (of the result), `division_by_zero`. A wrong `text` raises as `parse_expression`.
    """
    evaluate = _compile(parse_expression(text))

    def read(properties: Properties) -> int | Decimal | None:
        found = evaluate(properties)
        return None if found is None else _quantity(*found)

    return read


def _quantity(numerator: int, denominator: int) -> int | Decimal:
    if abs(numerator) < _LIMIT * denominator:
        if numerator % denominator == 0:
            return numerator // denominator
        rounded = round_half_away(Fraction(numerator, denominator), FRACTION_DIGITS)
        if abs(rounded) < _LIMIT:
            return rounded
    raise Invalid(OUT_OF_RANGE, f"the expression has a value of more than {INTEGER_DIGITS} digits before the point")


def _compile(node: Node) -> Evaluator:
    match node:
        case Number():
            ratio = node.value.as_integer_ratio()
            return lambda _properties: ratio
        case PropertyPath():
            return _property(node)
        case Sum():
            return _sum([(negative, _compile(term)) for negative, term in node.terms])
        case Product():
            return _product([(divides, _compile(factor)) for divides, factor in node.factors])
        case Call():
            return _call(node)


def _property(node: PropertyPath) -> Evaluator:
    get = compile_names(node.names)

    def read(properties: Properties) -> Ratio | None:
        value = get(properties)
        # By type, not isinstance: true and false are no numbers.
        if type(value) is int and -_LIMIT < value < _LIMIT:
            return value, 1
        return None if value is None else parse_quantity(value).as_integer_ratio()

    return read


def _sum(terms: Sequence[tuple[bool, Evaluator]]) -> Evaluator:
    def total(properties: Properties) -> Ratio | None:
        numerator, denominator, missing = 0, 1, False
        for negative, term in terms:
            found = term(properties)
            if found is None:
                missing = True  # and yet the other terms may be issues
                continue
            above, below = found
            if negative:
                above = -above
            if below == denominator:
                numerator += above
            else:
                numerator, denominator = numerator * below + above * denominator, denominator * below
        return None if missing else (numerator, denominator)

    return total


def _product(factors: Sequence[tuple[bool, Evaluator]]) -> Evaluator:
    def product(properties: Properties) -> Ratio | None:
        numerator, denominator, missing = 1, 1, False
        for divides, factor in factors:
            found = factor(properties)
            if found is None:
                missing = True
                continue
            above, below = found
            if divides:
                if above == 0:
                    raise Invalid(DIVISION_BY_ZERO, "the expression divides by zero")
                above, below = (below, above) if above > 0 else (-below, -above)
            numerator *= above
            denominator *= below
        return None if missing else (numerator, denominator)

    return product


def _call(node: Call) -> Evaluator:
    arguments = [_compile(argument) for argument in node.arguments]
    match node.function:
        case "coalesce":
            return _coalesce(arguments)
        case "min":
            return _extreme(arguments, greatest=False)
        case "max":
            return _extreme(arguments, greatest=True)
        case "abs":
            return _of_one(arguments[0], lambda above, below: (abs(above), below))
        case "ceil":
            return _of_one(arguments[0], lambda above, below: (-(-above // below), 1))
        case "floor":
            return _of_one(arguments[0], lambda above, below: (above // below, 1))


def _coalesce(arguments: Sequence[Evaluator]) -> Evaluator:
    """The first value that is there; what stands after it is not looked at."""

    def first(properties: Properties) -> Ratio | None:
        for argument in arguments:
            found = argument(properties)
            if found is not None:
                return found
        return None

    return first


def _extreme(arguments: Sequence[Evaluator], *, greatest: bool) -> Evaluator:
    def extreme(properties: Properties) -> Ratio | None:
        best: Ratio | None = None
        missing = False
        for argument in arguments:
            found = argument(properties)
            if found is None:
                missing = True
            elif best is None or (found[0] * best[1] > best[0] * found[1]) is greatest:
                best = found
        return None if missing else best

    return extreme


def _of_one(argument: Evaluator, apply: Callable[[int, int], Ratio]) -> Evaluator:
    def applied(properties: Properties) -> Ratio | None:
        found = argument(properties)
        return None if found is None else apply(*found)

    return applied
