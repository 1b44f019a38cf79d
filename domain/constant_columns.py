"""Columns of a block that say the same of all its rows: told once, whoever writes them."""

from collections.abc import Sequence
from typing import Any


def is_constant(column: Sequence[Any]) -> bool:
    """Whether there is a value, and no other one."""
    # Both ends first: most columns whose values differ need not be walked through.
    return bool(column) and column[0] == column[-1] and column.count(column[0]) == len(column)
