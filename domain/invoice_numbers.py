"""What invoices are called: a tenant's own format around a number without gaps.

The number ends the name and no other digit touches it. So the number can be read off every name in any format, and two
invoices never have one name, however often the format changes.
"""

import re
from datetime import datetime

from domain.errors import Invalid, invalid_field
from domain.periods import zone_of

MAX_FORMAT = 40
_PIECE = re.compile(r"\{year\}|[A-Za-z0-9._-]")
_NUMBER = re.compile(r"\{number(?::0(?P<digits>[1-9]|1[0-2])d)?\}\Z")
# Where a name is looked up an id is too.
_RESERVED = "inv_"


def validate_number_format(number_format: str) -> None:
    """Raises Invalid `number_format_malformed`.

    A format is up to 40 letters, digits, points, dashes and underscores, with `{year}` among them where wanted, and ends
    with `{number}`, or `{number:06d}` for one of at least six digits (up to 12). No digit or year stands before it.
    """
    number = _NUMBER.search(number_format)
    if number is None:
        raise _malformed("it ends with {number}, or {number:06d} for a number of at least six digits (1 to 12)")
    before = number_format[: number.start()]
    if len(number_format) > MAX_FORMAT or _PIECE.sub("", before):
        raise _malformed(
            f"it is up to {MAX_FORMAT} letters, digits, points, dashes and underscores, with {{year}} among them"
        )
    if before and (before[-1].isdigit() or before.endswith("{year}")):
        raise _malformed("a letter, a point, a dash or an underscore stands between the number and what is before it")
    if before.lower().startswith(_RESERVED):
        raise _malformed(f"names that begin with {_RESERVED} are kept for ids")


def invoice_number(number_format: str, number: int, issued_at: datetime, zone: str) -> str:
    """The name of the invoice with this number in a valid format; the year is that of `issued_at` in `zone`."""
    found = _NUMBER.search(number_format)
    if found is None:
        raise ValueError(f"{number_format!r} was not validated")
    before = number_format[: found.start()]
    if "{year}" in before:
        before = before.replace("{year}", str(issued_at.astimezone(zone_of(zone)).year))
    return before + str(number).rjust(int(found["digits"] or 1), "0")


def _malformed(rule: str) -> Invalid:
    return invalid_field("/invoice_number_format", "number_format_malformed", f"a format of invoice numbers: {rule}")
