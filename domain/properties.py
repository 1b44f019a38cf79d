"""Reading one value out of an event's properties: decoded JSON, with numbers as int or Decimal, never float."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from domain.errors import Invalid
from domain.quantities import format_quantity

Properties = Mapping[str, Any]
Reader = Callable[[Properties], Any]

MAX_PATH_LENGTH = 255

_CANONICAL = msgspec.json.Encoder(decimal_format="number", order="sorted")


def validate_path(path: str) -> None:
    """A path is names joined by points, `a.b.c`, each a step into a nested object. Raises Invalid `path_malformed`."""
    if not path or len(path) > MAX_PATH_LENGTH or not all(path.split(".")):
        raise Invalid("path_malformed", f"a path is names joined by points, at most {MAX_PATH_LENGTH} characters long")


def compile_path(path: str) -> Reader:
    """A function from properties to the value at `path`; None where it is missing or null, which are the same here."""
    return compile_names(path.split("."))


def compile_names(names: Sequence[str]) -> Reader:
    """`compile_path` of a path that is given as its names, at least one, which may hold points."""
    first, *rest = names
    if not rest:
        return lambda properties: properties.get(first)

    def read(properties: Properties) -> Any:
        value = properties.get(first)
        for name in rest:
            if type(value) is not dict:
                return None
            value = value.get(name)
        return value

    return read


def scalar_text(value: Any) -> str | None:
    """The text of a string, number or boolean; None for null, objects and arrays. Equal numbers have equal texts."""
    kind = type(value)
    if kind is str:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return str(value)
    if kind is Decimal:
        return format_quantity(value)
    return None


def dimension_text(value: Any) -> str:
    """What a dimension stores: the text of a scalar, compact JSON of an object or array, "" where it is missing."""
    if type(value) is str:
        return value
    if value is None:
        return ""
    text = scalar_text(value)
    return _CANONICAL.encode(value).decode() if text is None else text
