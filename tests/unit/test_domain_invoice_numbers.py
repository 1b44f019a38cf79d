from datetime import UTC, datetime

import pytest

from domain.errors import Invalid
from domain.invoice_numbers import invoice_number, validate_number_format
from schemas.billing_profiles import DEFAULT_NUMBER_FORMAT

NEW_YEAR = datetime(2026, 12, 31, 23, 30, tzinfo=UTC)


def test_numbers_grow_beyond_their_padding() -> None:
    numbers = [invoice_number(DEFAULT_NUMBER_FORMAT, n, NEW_YEAR, "UTC") for n in (1, 999_999, 1_000_000)]
    assert numbers == ["INV-000001", "INV-999999", "INV-1000000"]


@pytest.mark.parametrize(
    ("number_format", "zone", "name"),
    [
        ("{number}", "UTC", "17"),
        ("{year}-{number:05d}", "UTC", "2026-00017"),
        ("{year}-{number:05d}", "Europe/Berlin", "2027-00017"),
        ("R.{year}_DE-{number:012d}", "UTC", "R.2026_DE-000000000017"),
    ],
)
def test_a_format_names_the_number_and_the_year_of_issue_in_the_sellers_zone(
    number_format: str, zone: str, name: str
) -> None:
    validate_number_format(number_format)
    assert invoice_number(number_format, 17, NEW_YEAR, zone) == name


@pytest.mark.parametrize(
    "number_format",
    [
        "",
        "INV-1",
        "{number}-{year}",
        "{number}/26",
        "{number} ",
        "{number}\n",
        "20{number}",
        "{year}{number}",
        "{number}-{number}",
        "A/{number}",
        "Ä-{number}",
        "{month}-{number}",
        "{year:04d}-{number}",
        "{number:6d}",
        "{number:00d}",
        "{number:013d}",
        "{number:06x}",
        "{number.real}",
        "{{number}}",
        "inv_{number}",
        "-" * 40 + "{number}",
    ],
)
def test_a_format_that_could_name_two_invoices_alike_or_stands_in_no_path_is_refused(number_format: str) -> None:
    with pytest.raises(Invalid) as refused:
        validate_number_format(number_format)
    assert refused.value.code == "number_format_malformed"
    assert refused.value.details[0].pointer == "/invoice_number_format"
