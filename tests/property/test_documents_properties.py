"""Whatever the amounts and the names, a document says neither more nor less than the invoice."""

import csv
import io
from decimal import Decimal
from html import unescape

from hypothesis import given
from hypothesis import strategies as st

from documents import explain_invoice, invoice_csv, invoice_html, texts
from domain.money import minor_units
from schemas.prices import GraduatedPrice, Tier
from tests.support.invoice_documents import document, invoice, line, lump

D = Decimal
NUMBERS = st.decimals(min_value=-(10**26), max_value=10**26, places=12, allow_nan=False, allow_infinity=False)
CURRENCIES = st.sampled_from(["JPY", "USD", "KWD", "CLF"])
NAMES = st.text(max_size=60)
QUANTITIES = st.decimals(min_value=0, max_value=10**9, places=6, allow_nan=False, allow_infinity=False)
PRICES = st.decimals(min_value=0, max_value=100, places=8, allow_nan=False, allow_infinity=False)


@given(NUMBERS, CURRENCIES)
def test_money_as_it_is_shown_is_the_money(amount: Decimal, currency: str) -> None:
    shown = texts.money(amount, currency)
    assert D(shown.plain) == amount
    assert D(shown.text.replace(",", "").replace(texts.MINUS, "-")) == amount
    assert len(shown.plain.partition(".")[2]) >= minor_units(currency)


@given(NAMES)
def test_cleaned_text_is_clean_and_can_be_written(name: str) -> None:
    once = texts.clean(name)
    assert texts.clean(once) == once
    assert once.encode().decode() == once
    assert once.isprintable() or not once.isascii()


@given(NAMES)
def test_a_name_comes_back_from_html_and_csv_and_runs_in_neither(name: str) -> None:
    shown = document([lump("1.00", description=name)])
    described = shown.lines[0].description
    page = invoice_html(shown).decode()
    cell = page.partition("<bdi>")[2].partition("</bdi>")[0]
    assert "<" not in cell
    assert unescape(cell) == described
    [row] = csv.DictReader(io.StringIO(invoice_csv(shown).decode(), newline=""))
    assert row["description"].removeprefix("'") == described.removeprefix("'")
    assert not row["description"].startswith(("=", "+", "-", "@"))


@given(
    st.lists(st.tuples(QUANTITIES.filter(bool), PRICES, PRICES), max_size=5, unique_by=lambda tier: tier[0]),
    st.tuples(PRICES, PRICES),
    st.lists(QUANTITIES, min_size=1, max_size=4),
    CURRENCIES,
)
def test_an_explanation_sums_to_the_invoice(
    bounded: list[tuple[Decimal, Decimal, Decimal]],
    last: tuple[Decimal, Decimal],
    quantities: list[Decimal],
    currency: str,
) -> None:
    tiers = [Tier(up_to=up_to, unit_amount=unit, flat_amount=flat) for up_to, unit, flat in sorted(bounded)]
    price = GraduatedPrice(tiers=(*tiers, Tier(unit_amount=last[0], flat_amount=last[1])))
    kept = invoice([line(price, str(quantity), currency) for quantity in quantities], currency=currency)
    told = explain_invoice(kept, zone="UTC", prices={}, meters={}, usage={})
    assert sum(one.amount for one in told.lines) == kept.total
    for one in told.lines:
        assert sum(step.step.amount for step in one.steps) == (one.steps[-1].sum if one.steps else 0)
        assert sum(step.step.amount for step in one.steps) + one.rounding == one.amount
