"""A quote is the lines that usage would make at a price; what closings cannot read is quoted and not sold."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from domain.errors import Invalid
from domain.invoices import assemble_invoice
from domain.plans import validate_plan
from domain.pricing.quote import quote
from schemas.billing import BilledPart
from schemas.invoices import Invoice
from schemas.periods import Period
from schemas.plans import PlanSpec
from schemas.price_terms import Bucketing, Commitment
from schemas.priced_usage import BucketUsage, PricedUsage, ValueUsage
from schemas.prices import (
    FlatPrice,
    GraduatedPrice,
    MatrixCell,
    MatrixPrice,
    PercentagePrice,
    PerUnitPrice,
    PlanPrice,
    PlanPriceSpec,
    Price,
    Tier,
)
from schemas.quotes import QuoteRequest

D = Decimal
TIERS = GraduatedPrice(tiers=(Tier(up_to=D(1000)), Tier(unit_amount=D("0.001"))))
MATRIX = MatrixPrice(
    dimensions=("region",), cells=(MatrixCell(values=("eu",), unit_amount=D(2)),), default_unit_amount=D(3)
)
NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 - what a client may send
JANUARY = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))


def asked(price: Price, **changes: Any) -> QuoteRequest:
    return QuoteRequest(**({"currency": "USD", "price": price} | changes))


def test_a_quote_has_the_lines_and_steps_that_an_invoice_would_have() -> None:
    made = quote(asked(TIERS, quantity=D(3005)))
    assert (made.amount, len(made.lines)) == (D("2.01"), 1)
    assert sum(step.amount for step in made.lines[0].steps) == D("2.005")


def test_usage_of_any_shape_is_quoted() -> None:
    usage = PricedUsage(values=(ValueUsage(values=("eu",), quantity=D(5)), ValueUsage(values=("us",), quantity=D(1))))
    assert quote(asked(MATRIX, usage=usage)).amount == D(13)


def test_lines_of_a_split_period_sum_to_the_quote_of_the_whole() -> None:
    first = quote(asked(TIERS, quantity=D(1500), last=False))
    second = quote(asked(TIERS, quantity=D(3005), before=PricedUsage(quantity=D(1500))))
    assert first.amount + second.amount == quote(asked(TIERS, quantity=D(3005))).amount


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "quantity_or_usage"),
        ({"quantity": D(1), "usage": PricedUsage()}, "quantity_or_usage"),
        ({"quantity": D(1), "currency": "usd"}, "unknown_currency"),
        ({"quantity": D("1e26")}, "quantity_out_of_range"),
        ({"usage": PricedUsage(events=-1)}, "usage_negative"),
        ({"usage": PricedUsage(buckets=(BucketUsage(at=NAIVE, quantity=D(1)),))}, "time_without_zone"),
        ({"usage": PricedUsage(event_amounts=(D(1),) * 10_001)}, "usage_too_long"),
        ({"quantity": D(1), "price": PerUnitPrice(unit_amount=D(-1))}, "negative_amount"),
        ({"quantity": D(1), "price": MATRIX}, "usage_unfit"),
    ],
)
def test_what_cannot_be_quoted_is_refused_with_a_code(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(Invalid) as refused:
        quote(asked(changes.pop("price", TIERS), **changes))
    assert refused.value.code == code


@pytest.mark.parametrize(
    "price",
    [
        MATRIX,
        PercentagePrice(rate_percent=D(3), fixed_amount=D("0.3")),
        PerUnitPrice(unit_amount=D(1), bucket=Bucketing(size="day")),
    ],
)
def test_a_price_that_closings_cannot_read_the_usage_of_is_not_sold(price: Price) -> None:
    with pytest.raises(Invalid) as refused:
        validate_plan(
            PlanSpec(key="pro", currency="USD", prices=(PlanPriceSpec(key="use", price=price, meter="calls"),)), "pla"
        )
    assert refused.value.code == "price_not_billable"


def invoice(price: PlanPrice, used: Decimal, end: datetime = JANUARY[1]) -> Invoice:
    return assemble_invoice(
        invoice_id="inv_1",
        line_ids=["lin_1"],
        customer_id="cus_1",
        subscription_id="sub_1",
        currency="USD",
        period_start=JANUARY[0],
        period_end=end,
        cut=1,
        parts=[
            BilledPart(
                price=price,
                quantity=price.quantity if price.meter_id is None else used,
                start=JANUARY[0],
                end=end,
            )
        ],
        whole=Period(start=JANUARY[0], end=JANUARY[1], index=0),
    )


def sold(price: Price, meter_id: str | None = "met_calls") -> PlanPrice:
    return PlanPrice(id="pri_use", key="use", currency="USD", price=price, meter_id=meter_id)


def test_what_fills_a_line_up_to_its_minimum_is_a_line_of_its_own() -> None:
    made = invoice(sold(PerUnitPrice(unit_amount=D(1), minimum_amount=D(31))), D(4))
    assert [(line.id, line.kind, line.amount) for line in made.lines] == [
        ("lin_1", "usage", D(4)),
        ("lin_1_minimum", "true_up", D(27)),
    ]
    assert made.total == D(31)


def test_a_commitment_and_a_minimum_of_a_part_of_a_period_are_prorated() -> None:
    half = datetime(2026, 1, 11, tzinfo=UTC)
    minimum = invoice(sold(PerUnitPrice(unit_amount=D(1), minimum_amount=D(31))), D(4), half)
    committed = invoice(
        sold(PerUnitPrice(unit_amount=D(1), commitment=Commitment(amount=D(62), true_up=True))), D(0), half
    )
    assert (minimum.total, committed.total) == (D(10), D(20))


def test_a_fee_is_prorated_with_what_fills_it_up() -> None:
    made = invoice(sold(FlatPrice(amount=D(31)), None), D(0), datetime(2026, 1, 11, tzinfo=UTC))
    assert [(line.kind, line.amount) for line in made.lines] == [("fee", D(10))]
