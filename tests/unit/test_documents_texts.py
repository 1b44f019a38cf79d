from datetime import UTC, datetime
from decimal import Decimal

import pytest

from documents import texts
from domain.errors import Invalid
from schemas.periods import FOREVER

D = Decimal


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "currency", "plain", "text"),
    [
        ("1234.5", "USD", "1234.50", "1,234.50"),
        ("0", "USD", "0.00", "0.00"),
        ("-0", "USD", "0.00", "0.00"),
        ("-1234567.89", "EUR", "-1234567.89", "−1,234,567.89"),
        ("120000", "JPY", "120000", "120,000"),
        ("16.666", "KWD", "16.666", "16.666"),
        ("3", "KWD", "3.000", "3.000"),
        ("1", "CLF", "1.0000", "1.0000"),
        ("0.00025", "USD", "0.00025", "0.00025"),
        ("1E+3", "USD", "1000.00", "1,000.00"),
        ("12345678901234567890123456.123456789012", "USD", None, "12,345,678,901,234,567,890,123,456.123456789012"),
    ],
)
def test_money_keeps_all_its_digits_and_at_least_those_of_the_minor_unit(
    amount: str, currency: str, plain: str | None, text: str
) -> None:
    shown = texts.money(D(amount), currency)
    assert shown.text == text
    assert shown.plain == (plain or amount)


def test_the_sign_stands_before_the_currency_code() -> None:
    assert texts.with_code(D("-1234.5"), "EUR") == "−EUR\N{NO-BREAK SPACE}1,234.50"
    assert texts.with_code(D(5), "JPY") == "JPY\N{NO-BREAK SPACE}5"


def test_a_currency_that_does_not_exist_is_refused() -> None:
    with pytest.raises(Invalid) as refused:
        texts.money(D(1), "XXQ")
    assert refused.value.code == "unknown_currency"


def test_a_quantity_keeps_every_digit() -> None:
    assert texts.quantity(D("1000731.482913000000")).text == "1,000,731.482913"


@pytest.mark.parametrize(
    ("start", "end", "zone", "text"),
    [
        (at(2026, 3, 1), at(2026, 4, 1), "UTC", "1 – 31 Mar 2026"),
        (at(2026, 3, 15), at(2026, 4, 15), "UTC", "15 Mar – 14 Apr 2026"),
        (at(2025, 12, 15), at(2026, 1, 15), "UTC", "15 Dec 2025 – 14 Jan 2026"),
        (at(2026, 3, 7), at(2026, 3, 8), "UTC", "7 Mar 2026"),
        (at(2026, 9, 30, 22), at(2026, 10, 31, 23), "Europe/Berlin", "1 – 31 Oct 2026"),
        (at(2026, 9, 30, 22), at(2026, 10, 31, 23), "UTC", "30 Sep 2026 22:00 – 31 Oct 2026 23:00 UTC"),
        (at(2026, 3, 7, 10), at(2026, 3, 7, 11, 0, 5), "UTC", "7 Mar 2026 10:00 – 11:00:05 UTC"),
        (at(2026, 3, 7, 10), at(2026, 3, 7, 10), "Asia/Kolkata", "7 Mar 2026 15:30 UTC+05:30"),
        (
            at(2026, 3, 8, 6, 30),
            at(2026, 3, 8, 7, 30),
            "America/New_York",
            "8 Mar 2026 01:30 UTC−05:00 – 8 Mar 2026 03:30 UTC−04:00",
        ),
        (at(2026, 3, 7), FOREVER, "UTC", "from 7 Mar 2026"),
    ],
)
def test_a_period_names_its_first_and_last_day_where_it_holds_whole_local_days(
    start: datetime, end: datetime, zone: str, text: str
) -> None:
    assert texts.period(start, end, zone) == text


def test_a_day_whose_midnight_the_clock_skips_is_a_whole_day_all_the_same() -> None:
    """In Beirut 29 March 2026 begins at 01:00."""
    assert texts.period(at(2026, 3, 28, 22), at(2026, 3, 29, 21), "Asia/Beirut") == "29 Mar 2026"


def test_an_instant_for_machines_carries_its_offset() -> None:
    assert texts.instant_of(at(2026, 7, 1), "Europe/Berlin").plain == "2026-07-01T02:00:00+02:00"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("  two\nlines\tand\x00more ", "two lines and more"),
        ("abc\u202edef\u2066ghi\u200f", "abcdefghi"),
        ("half\ud800", "half\ufffd"),
        ("line\u2028break", "line break"),
        ("東京 Łódź עברית", "東京 Łódź עברית"),
    ],
)
def test_foreign_text_is_one_line_that_cannot_turn_its_neighbours(raw: str, text: str) -> None:
    assert texts.clean(raw) == text
