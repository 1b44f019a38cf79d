"""What an expression consists of. Sums and products hold all their parts, so that depth is nesting, not length."""

from decimal import Decimal
from typing import Literal, NamedTuple

FunctionName = Literal["min", "max", "coalesce", "abs", "ceil", "floor"]


class Number(NamedTuple):
    value: Decimal


class PropertyPath(NamedTuple):
    """Names, each a step into a nested object."""

    names: tuple[str, ...]


class Sum(NamedTuple):
    """`terms`: (is it taken off, what)."""

    terms: "tuple[tuple[bool, Node], ...]"


class Product(NamedTuple):
    """`factors`: (is it divided by, what), from left to right."""

    factors: "tuple[tuple[bool, Node], ...]"


class Call(NamedTuple):
    function: FunctionName
    arguments: "tuple[Node, ...]"


Node = Number | PropertyPath | Sum | Product | Call
