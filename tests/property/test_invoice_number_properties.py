"""However the format of a tenant's numbers changes, no two of its invoices have one name."""

from datetime import UTC, datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from domain.errors import Invalid
from domain.invoice_numbers import invoice_number, validate_number_format

LITERALS = st.text(alphabet="AZaz09._-", max_size=8)
PREFIXES = st.tuples(LITERALS, st.sampled_from(["", "{year}"]), LITERALS).map("".join)
ENDS = st.sampled_from(["{number}", "{number:02d}", "{number:06d}", "{number:012d}"])
FORMATS = st.tuples(PREFIXES, ENDS).map("".join)
NUMBERS = st.integers(min_value=1, max_value=10**13)
INSTANTS = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)).map(  # noqa: DTZ001
    lambda at: at.replace(tzinfo=UTC)
)


def valid(number_format: str) -> bool:
    try:
        validate_number_format(number_format)
    except Invalid:
        return False
    return True


@given(FORMATS, FORMATS, NUMBERS, NUMBERS, INSTANTS, INSTANTS)
def test_two_numbers_have_two_names_in_any_two_formats(
    one: str, other: str, first: int, second: int, made_at: datetime, later_at: datetime
) -> None:
    assume(first != second)
    assume(valid(one) and valid(other))
    assert invoice_number(one, first, made_at, "UTC") != invoice_number(other, second, later_at, "UTC")


@given(FORMATS, NUMBERS, INSTANTS)
def test_a_name_can_stand_in_a_path_and_in_a_file_name(number_format: str, number: int, made_at: datetime) -> None:
    assume(valid(number_format))
    name = invoice_number(number_format, number, made_at, "UTC")
    assert name.isascii()
    assert all(sign.isalnum() or sign in "._-" for sign in name)


@given(st.text(max_size=50))
def test_any_text_is_a_format_or_is_refused(text: str) -> None:
    if valid(text):
        assert invoice_number(text, 1, datetime(2026, 1, 1, tzinfo=UTC), "UTC").endswith("1")
    else:
        with pytest.raises(Invalid):
            validate_number_format(text)
