"""Value expressions of meters: a few lines of arithmetic over an event's properties. Grammar: docs/numbers.md."""

from domain.expressions.compile import DIVISION_BY_ZERO, compile_expression
from domain.expressions.parse import MAX_EXPRESSION_DEPTH, MAX_EXPRESSION_LENGTH, parse_expression
from domain.expressions.reads import compile_reads

__all__ = [
    "DIVISION_BY_ZERO",
    "MAX_EXPRESSION_DEPTH",
    "MAX_EXPRESSION_LENGTH",
    "compile_expression",
    "compile_reads",
    "parse_expression",
]
