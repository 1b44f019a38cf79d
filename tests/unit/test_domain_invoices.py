from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from domain.errors import Invalid
from domain.invoices import assemble_invoice, finalize
from schemas.billing import BilledPart
from schemas.invoices import Invoice
from schemas.prices import FlatPrice, GraduatedPrice, PerUnitPrice, PlanPrice, Price, Tier

D = Decimal
JANUARY, FEBRUARY = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2))


def price(key: str, model: Price, meter_id: str | None = None, **changes: Any) -> PlanPrice:
    fields: dict[str, Any] = {"id": f"pri_{key}", "key": key, "currency": "USD", "price": model, "meter_id": meter_id}
    return PlanPrice(**(fields | changes))


PRICES = [
    price("base", FlatPrice(amount=D("49.00")), name="Base fee"),
    price("seats", PerUnitPrice(unit_amount=D("2.5")), quantity=D(3)),
    price("calls", GraduatedPrice(tiers=(Tier(up_to=D(1000)), Tier(unit_amount=D("0.001")))), "met_calls"),
    price("peak", PerUnitPrice(unit_amount=D(1)), "met_peak"),
]


def invoice(**changes: Any) -> Invoice:
    fields: dict[str, Any] = {
        "invoice_id": "inv_1",
        "line_ids": ["lin_1", "lin_2", "lin_3", "lin_4"],
        "customer_id": "cus_1",
        "subscription_id": "sub_1",
        "currency": "USD",
        "period_start": JANUARY,
        "period_end": FEBRUARY,
        "cut": 7,
        "parts": [part(price, {"met_calls": D(3005), "met_peak": D(0)}) for price in PRICES],
    }
    return assemble_invoice(**(fields | changes))


def part(of: PlanPrice, usage: Mapping[str, Decimal]) -> BilledPart:
    quantity = of.quantity if of.meter_id is None else usage[of.meter_id]
    return BilledPart(price=of, quantity=quantity, start=JANUARY, end=FEBRUARY)


def test_every_price_is_a_line_and_the_total_is_the_sum_of_rounded_lines() -> None:
    made = invoice()
    assert [(line.id, line.kind, str(line.amount)) for line in made.lines] == [
        ("lin_1", "fee", "49.00"),
        ("lin_2", "fee", "7.50"),
        ("lin_3", "usage", "2.01"),
        ("lin_4", "usage", "0.00"),
    ]
    assert made.lines[2].exact_amount == D("2.005")
    assert (made.subtotal, made.total, made.amount_due) == (D("58.51"), D("58.51"), D("58.51"))
    assert (made.state, made.cut, made.lines[0].description, made.lines[1].description) == (
        "draft",
        7,
        "Base fee",
        "seats",
    )


def test_the_same_inputs_make_the_same_invoice() -> None:
    assert invoice() == invoice()


def test_an_invoice_has_one_currency() -> None:
    with pytest.raises(Invalid) as refused:
        invoice(currency="EUR")
    assert refused.value.code == "currency_mixed"


def test_a_draft_becomes_open_and_one_of_nothing_is_paid_at_once() -> None:
    assert finalize(invoice()).state == "open"
    unused = {"met_calls": D(1), "met_peak": D(0)}
    nothing = invoice(parts=[part(price, unused) for price in PRICES[2:]], line_ids=["lin_1", "lin_2"])
    assert finalize(nothing).state == "paid"
    with pytest.raises(Invalid):
        finalize(finalize(invoice()))
