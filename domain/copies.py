"""In what a copy of an event differs from the first one, which stands."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec


class EventBody(msgspec.Struct, frozen=True, kw_only=True):
    """What an event says, beside its identity. `time` is None where none was sent: its receipt counts then."""

    type: str
    customer: str
    time: datetime | None
    properties: Mapping[str, Any]


def differing_fields(first: EventBody, copy: EventBody) -> tuple[str, ...]:
    """The fields in which the copy differs, in the order type, customer, time, properties.

    Properties are compared as values: the order of keys and the way a number is written (1, 1.0, 10e-1) say nothing.
    """
    differs = [name for name in ("type", "customer", "time") if getattr(first, name) != getattr(copy, name)]
    if not _same(first.properties, copy.properties):
        differs.append("properties")
    return tuple(differs)


def _same(one: Any, other: Any) -> bool:
    # Iterative: properties nest up to 32 levels, and nothing here may depend on that.
    waiting = [(one, other)]
    while waiting:
        left, right = waiting.pop()
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            if left.keys() != right.keys():
                return False
            waiting += [(value, right[name]) for name, value in left.items()]
        elif isinstance(left, list) and isinstance(right, list):
            if len(left) != len(right):
                return False
            waiting += zip(left, right, strict=True)
        elif not _same_scalar(left, right):
            return False
    return True


def _same_scalar(left: Any, right: Any) -> bool:
    numbers = (int, Decimal)
    # `True == 1` in Python, and not in JSON.
    if type(left) in numbers and type(right) in numbers:
        return bool(left == right)
    return type(left) is type(right) and bool(left == right)
