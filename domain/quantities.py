"""What counts as a quantity: a decimal of at most 26 digits before the point and 12 after, never truncated."""

import re
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import cast

from domain.errors import Invalid

INTEGER_DIGITS = 26
FRACTION_DIGITS = 12

_LIMIT = 10**INTEGER_DIGITS
_QUANTUM = Decimal(1).scaleb(-FRACTION_DIGITS)
# `Decimal(38, 12)` of the store: anything that needs more digits traps instead of being rounded.
_FITS = Context(
    prec=INTEGER_DIGITS + FRACTION_DIGITS, rounding=ROUND_HALF_UP, traps=[InvalidOperation, Inexact, Overflow]
)
# JSON's number grammar, plus a sign and digits on one side of the point only. `Decimal()` alone would also take
# underscores, spaces, digits of other scripts, "NaN" and "Infinity".
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")

_PLAIN_DIGITS = 64

# Texts of so many digits, and integers below this, are small: they fit a machine word.
_SMALL_DIGITS = 18
_SMALL = 10**_SMALL_DIGITS

ZERO = Decimal(0)

NOT_A_NUMBER = "not_a_number"
OUT_OF_RANGE = "quantity_out_of_range"
TOO_PRECISE = "too_many_fraction_digits"


def number_of(value: object) -> int | Decimal | None:
    """The number that a JSON value is or spells, of any size; None when it is no number (true and false are none)."""
    # By type, not isinstance: true and false are ints to isinstance, and this runs once per event and meter.
    if type(value) is int or type(value) is Decimal:
        return value
    if type(value) is str and _NUMBER.fullmatch(value):
        try:
            return Decimal(value)
        except InvalidOperation:  # an exponent beyond what the decimal module can hold
            return None
    return None


def parse_quantity(value: object) -> Decimal:
    """A JSON value (int, Decimal or numeric text) as a quantity; numerically equal, never rounded.

    Raises Invalid `not_a_number`, `quantity_out_of_range` (26 digits) or `too_many_fraction_digits` (12).
    """
    if type(value) is Decimal:
        decimal = value
    elif (type(value) is int and -_LIMIT < value < _LIMIT) or (
        type(value) is str and len(value) <= INTEGER_DIGITS and value.isascii() and value.isdecimal()
    ):
        return Decimal(value)
    else:
        number = number_of(value)
        if number is None:
            raise Invalid(NOT_A_NUMBER, "the value is neither a number nor text that spells one")
        decimal = Decimal(number)
    try:
        fitted = _FITS.quantize(decimal, _QUANTUM)
    except (InvalidOperation, Inexact, Overflow):
        raise _misfit(decimal) from None
    if not fitted.is_finite():  # a quiet NaN passes through quantize
        raise _misfit(decimal)
    return fitted or ZERO


def plain_integer(value: object) -> int | None:
    """The quantity of a small integer or of its digits; None of everything else, which may be a quantity too."""
    if type(value) is int:
        return value if -_SMALL < value < _SMALL else None
    if type(value) is str and len(value) <= _SMALL_DIGITS and value.isascii() and value.isdecimal():
        return int(value)
    return None


def plain_integers(values: Sequence[object]) -> list[int] | None:
    """`plain_integer` of each; None where one of them has none."""
    kinds = set(map(type, values))
    if kinds == {int}:
        integers = cast("list[int]", values)
        return integers if min(integers) > -_SMALL and max(integers) < _SMALL else None
    if kinds == {str}:
        texts = cast("list[str]", values)
        joined = "".join(texts)
        if all(texts) and joined.isascii() and joined.isdecimal() and max(map(len, texts)) <= _SMALL_DIGITS:
            return list(map(int, texts))
    return None


def _misfit(decimal: Decimal) -> Invalid:
    if not decimal.is_finite():
        return Invalid(NOT_A_NUMBER, "the value is not a finite number")
    if decimal.adjusted() >= INTEGER_DIGITS:
        return Invalid(OUT_OF_RANGE, f"the value has more than {INTEGER_DIGITS} digits before the point")
    return Invalid(TOO_PRECISE, f"the value has more than {FRACTION_DIGITS} digits after the point")


def format_quantity(value: Decimal) -> str:
    """Plain notation: no exponent, no trailing zeros, no negative zero. Equal numbers give equal text.

    Numbers far outside the range of a quantity keep an exponent: `1e999999` must not become a megabyte of text.
    """
    if not value:
        return "0"
    if abs(value.adjusted()) > _PLAIN_DIGITS:
        sign, digits, _ = value.as_tuple()
        coefficient = "".join(map(str, digits)).rstrip("0")
        return f"{'-' if sign else ''}{coefficient}e{value.adjusted()}"
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def plain_quantity(value: Decimal) -> Decimal:
    """The same number without trailing zeros, so that equal numbers read alike."""
    return Decimal(format_quantity(value))
