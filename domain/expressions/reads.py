"""What an expression read of an event: shown where it came to nothing."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from domain.expressions.nodes import Call, Node, Number, Product, PropertyPath, Sum
from domain.expressions.parse import parse_expression
from domain.properties import Properties, compile_names

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def compile_reads(text: str) -> Callable[[Properties], dict[str, Any] | None]:
    """The properties that `text` (valid: `parse_expression`) reads, by their paths as they are written there.

    The function answers None where none of them is there.
    """
    readers = {_written(path): compile_names(path.names) for path in _paths(parse_expression(text))}

    def read(properties: Properties) -> dict[str, Any] | None:
        found = {path: value_at(properties) for path, value_at in readers.items()}
        return None if all(value is None for value in found.values()) else found

    return read


def _paths(node: Node) -> Iterator[PropertyPath]:
    match node:
        case PropertyPath():
            yield node
        case Sum():
            for _, term in node.terms:
                yield from _paths(term)
        case Product():
            for _, factor in node.factors:
                yield from _paths(factor)
        case Call():
            for argument in node.arguments:
                yield from _paths(argument)
        case Number():
            return


def _written(path: PropertyPath) -> str:
    return ".".join(name if _PLAIN_NAME.fullmatch(name) else f"`{name}`" for name in path.names)
