from decimal import Decimal
from fractions import Fraction

import pytest

from domain.errors import Invalid
from domain.money import EXACT, minor_units, round_half_away, round_money
from domain.quantities import format_quantity, parse_quantity

D = Decimal


@pytest.mark.parametrize(
    ("amount", "currency", "rounded"),
    [
        ("0.005", "USD", "0.01"),
        ("-0.005", "USD", "-0.01"),
        ("0.0049999999999999999999", "USD", "0.00"),
        ("1000.5", "JPY", "1001"),
        ("1.0005", "KWD", "1.001"),
        ("0.00005", "CLF", "0.0001"),
        ("99999999999999999999999999.995", "EUR", "100000000000000000000000000.00"),
    ],
)
def test_money_rounds_half_away_from_zero_to_the_minor_unit(amount: str, currency: str, rounded: str) -> None:
    assert str(round_money(D(amount), currency)) == rounded


def test_a_rounded_negative_is_never_minus_zero() -> None:
    assert str(round_money(D("-0.001"), "USD")) == "0.00"


def test_a_fraction_rounds_exactly_at_the_half() -> None:
    assert round_half_away(Fraction(1, 8), 2) == D("0.13")
    assert round_half_away(Fraction(-1, 8), 2) == D("-0.13")
    assert round_half_away(Fraction(10**60 - 1, 8 * 10**60), 2) == D("0.12")


def test_an_unknown_currency_is_refused() -> None:
    for code in ("usd", "XXX", "", "US"):
        with pytest.raises(Invalid) as refused:
            minor_units(code)
        assert refused.value.code == "unknown_currency"


def test_the_widest_quantity_times_the_widest_price_is_exact() -> None:
    widest = D("9" * 26 + "." + "9" * 12)
    assert EXACT.multiply(widest, widest) == D((10**38 - 1) ** 2).scaleb(-24, EXACT)


@pytest.mark.parametrize(
    ("value", "quantity"),
    [
        (7, "7"),
        (-3, "-3"),
        ("1500", "1500"),
        (" 1.5".strip(), "1.5"),
        ("1e3", "1000"),
        ("-.5", "-0.5"),
        ("5.", "5"),
        (D("1.000000000000000000000"), "1"),
        (D("1E+25"), "1" + "0" * 25),
        ("9" * 26 + "." + "9" * 12, "9" * 26 + "." + "9" * 12),
        (D("-0.0"), "0"),
        (10**26 - 1, "9" * 26),
    ],
)
def test_numbers_and_texts_that_spell_them_are_quantities(value: object, quantity: str) -> None:
    assert format_quantity(parse_quantity(value)) == quantity


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (True, "not_a_number"),
        (None, "not_a_number"),
        ([], "not_a_number"),
        ("", "not_a_number"),
        ("NaN", "not_a_number"),
        ("Infinity", "not_a_number"),
        ("1_000", "not_a_number"),
        (" 1", "not_a_number"),
        ("\u0661", "not_a_number"),
        ("0x10", "not_a_number"),
        ("1e9999999999999999999999", "not_a_number"),
        (D("NaN"), "not_a_number"),
        (10**26, "quantity_out_of_range"),
        ("9" * 60, "quantity_out_of_range"),
        (D("1E+999999"), "quantity_out_of_range"),
        ("0.0000000000001", "too_many_fraction_digits"),
        (D("1E-999999"), "too_many_fraction_digits"),
    ],
)
def test_what_is_no_quantity_is_refused_and_never_truncated(value: object, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_quantity(value)
    assert refused.value.code == code


def test_a_huge_exponent_never_becomes_a_megabyte_of_text() -> None:
    assert format_quantity(D("1E+999999")) == format_quantity(D("10E+999998")) == "1e999999"
    assert format_quantity(D("-1E-999999")) == "-1e-999999"
    assert format_quantity(D("1.50")) == "1.5"
    assert format_quantity(D("1E+3")) == "1000"
