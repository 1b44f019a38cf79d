from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from documents.steps import document_step
from domain.errors import Invalid
from schemas.documents import ChargeRow, InvoiceDocument, InvoiceExtras
from schemas.prices import (
    FlatPrice,
    GraduatedPrice,
    PackagePrice,
    PerUnitPrice,
    PlanPrice,
    Price,
    RatedStep,
    Tier,
)
from tests.support.invoice_documents import document, invoice, line, lump

D = Decimal
TIERS = (Tier(up_to=D(1000)), Tier(unit_amount=D("0.001"), flat_amount=D(5)))


def rows(shown: InvoiceDocument) -> list[tuple[str, str]]:
    return [(row.label, row.amount.plain) for row in shown.rows]


def plan_price(price: Price) -> PlanPrice:
    return PlanPrice(id="pri_1", key="calls", currency="USD", price=price)


def test_every_row_from_the_lines_to_the_amount_due_is_shown_in_the_order_it_is_applied() -> None:
    kept = invoice([lump("100.00"), lump("-10.00")], total=D("85.68"), amount_due=D("80.68"))
    extras = InvoiceExtras(
        charges=(
            ChargeRow(kind="discount", label="Launch", amount=D(-9)),
            ChargeRow(kind="credit", label="Credits", amount=D(-9)),
            ChargeRow(kind="tax", label="VAT", amount=D("13.68")),
        ),
        included_taxes=(("Levy", D("1.00")),),
        payments=(("Paid on account", D(-5)),),
    )
    shown = document(kept, extras=extras)
    assert rows(shown) == [
        ("Subtotal", "90.00"),
        ("Launch", "-9.00"),
        ("Credits", "-9.00"),
        ("VAT", "13.68"),
        ("Total", "85.68"),
        ("including Levy", "1.00"),
        ("Paid on account", "-5.00"),
        ("Amount due", "80.68"),
    ]
    adding = [D(row.amount.plain) for row in shown.rows if row.kind in {"subtotal", "discount", "credit", "tax"}]
    assert sum(adding) == D("85.68")
    assert shown.amount_due == "USD\N{NO-BREAK SPACE}80.68"


@pytest.mark.parametrize("wrong", ["subtotal", "total", "amount_due"])
def test_sums_that_do_not_add_up_are_not_shown(wrong: str) -> None:
    kept = invoice([lump("100.00")])
    with pytest.raises(Invalid) as refused:
        document(replace(kept, **{wrong: D("100.01")}))
    assert refused.value.code == "amounts_disagree"


def test_steps_that_do_not_sum_to_their_line_are_not_shown() -> None:
    with pytest.raises(Invalid) as refused:
        document([line(PerUnitPrice(unit_amount=D(2)), "3", exact_amount=D(7), amount=D(7))])
    assert refused.value.code == "amounts_disagree"


@pytest.mark.parametrize(
    ("price", "quantity", "text", "plain", "detailed"),
    [
        (PerUnitPrice(unit_amount=D("2.5")), "3", "2.50", "2.50", False),
        (PerUnitPrice(unit_amount=D("0.0135")), "1234.5", "0.0135", "0.0135", False),
        (PerUnitPrice(unit_amount=D(2), free_units=D(1)), "3", "2.00", "2.00", True),
        (PackagePrice(amount=D(5), package_size=D(1000)), "1500", "5.00 / 1,000", "", True),
        (GraduatedPrice(tiers=TIERS), "3000", "", "", True),
        (FlatPrice(amount=D(49)), "1", "49.00", "49.00", False),
        (FlatPrice(amount=D(49)), "500", "", "", True),
    ],
)
def test_a_line_has_a_unit_price_where_a_single_one_made_its_amount_and_details_where_it_is_not_the_whole_story(
    price: Price, quantity: str, text: str, plain: str, detailed: bool
) -> None:
    [shown] = document([line(price, quantity)], prices={"pri_1": plan_price(price)}).lines
    assert (shown.unit_price.text, shown.unit_price.plain, shown.detailed) == (text, plain, detailed)


def test_steps_say_which_units_they_cover_and_rounding_is_a_step_of_its_own() -> None:
    price = GraduatedPrice(tiers=TIERS, free_units=D(10))
    [shown] = document([line(price, "3020.5")], prices={"pri_1": plan_price(price)}).lines
    assert [(step.label, step.units, step.quantity, step.unit_amount, step.amount) for step in shown.steps] == [
        ("Included units", "first 10", "10", "0.00", "0.00"),
        ("Tier 1, per unit", "over 10 to 1,010", "1,000", "0.00", "0.00"),
        ("Tier 2, per unit", "over 1,010 to 3,020.5", "2,010.5", "0.001", "2.0105"),
        ("Tier 2, flat price", "over 1,010 to 3,020.5", "1", "5.00", "5.00"),
    ]
    assert (shown.exact_amount.plain, shown.rounding, shown.amount.plain) == ("7.0105", "−0.0005", "7.01")
    assert shown.pricing == "graduated tiers"


@pytest.mark.parametrize(
    ("kind", "tier", "label", "shown"),
    [
        ("tier_units", 2, "", "Tier 2, per unit"),
        ("tier_units", None, "", "Tier, per unit"),
        ("rate", 3, "", "Tier 3, share of the amount"),
        ("units", None, "region=eu, model=\u202ebig", "Units, region=eu, model=big"),
        ("discount", None, "1: Loyalty", "Discount 1, Loyalty"),
        ("discount", None, "", "Discount"),
        ("unheard_of", None, "", "Unheard of"),
    ],
)
def test_a_step_says_its_tier_and_the_values_or_the_discount_it_is_for(
    kind: Any, tier: int | None, label: str, shown: str
) -> None:
    step = RatedStep(
        kind=kind,
        from_quantity=D(0),
        to_quantity=D(1),
        quantity=D(1),
        unit_amount=D(1),
        amount=D(1),
        tier=tier,
        label=label,
    )
    assert document_step(step, "USD").label == shown


def test_a_lump_shows_its_amount_only() -> None:
    steps = (
        RatedStep(kind="flat", from_quantity=D(0), to_quantity=D(1), quantity=D(1), unit_amount=D(30), amount=D(30)),
        RatedStep(
            kind="proration", from_quantity=D(0), to_quantity=D(1), quantity=D(1), unit_amount=D(-10), amount=D(-10)
        ),
    )
    [shown] = document([line(exact_amount=D(20), amount=D(20), steps=steps)]).lines
    assert (shown.steps[1].quantity, shown.steps[1].unit_amount, shown.steps[1].amount) == ("", "", "−10.00")
    assert shown.unit_price.text == ""


def test_an_adjustment_is_marked_as_one_and_shows_its_own_period() -> None:
    late = lump(
        "-3.00",
        kind="adjustment",
        period_start=datetime(2026, 2, 1, tzinfo=UTC),
        period_end=datetime(2026, 3, 1, tzinfo=UTC),
    )
    fee, adjustment = document([line(kind="fee"), late]).lines
    assert (fee.tag, fee.period) == ("", "1 – 31 Mar 2026")
    assert (adjustment.tag, adjustment.period, adjustment.amount.text) == ("Adjustment", "1 – 28 Feb 2026", "−3.00")


@pytest.mark.parametrize(
    ("state", "amount", "stamp", "due"),
    [
        ("draft", "5.00", "Draft", "This is a draft. It is not due yet and may still change."),
        ("open", "5.00", "", "Due on receipt"),
        ("open", "-5.00", "", "This amount is in your favour. Nothing is to be paid."),
        ("paid", "0.00", "", "Nothing is to be paid."),
        ("paid", "5.00", "", "Paid, with thanks."),
        ("void", "5.00", "Void", "This invoice is void. Nothing is to be paid."),
    ],
)
def test_a_document_says_whether_to_pay_and_how_only_where_something_is_due(
    state: str, amount: str, stamp: str, due: str
) -> None:
    shown = document(invoice([lump(amount)], state=state))
    assert (shown.stamp, shown.due) == (stamp, due)
    assert bool(shown.seller.payment) == (due == "Due on receipt")


def test_dates_are_local_and_the_zone_is_named() -> None:
    late_evening = datetime(2026, 4, 1, 2, tzinfo=UTC)
    extras = InvoiceExtras(due_at=datetime(2026, 4, 15, 2, tzinfo=UTC))
    shown = document(invoice([lump("5.00")], issued_at=late_evening), zone="America/Lima", extras=extras)
    assert ("Issued", "31 Mar 2026") in shown.facts
    assert ("Due", "14 Apr 2026") in shown.facts
    assert shown.due == "Due by 14 Apr 2026"
    assert shown.basis == "Dates are those of America/Lima. Usage is complete up to 31 Mar 2026 20:00 UTC−05:00."


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(Invalid) as refused:
        document([lump("1.00")], zone="Mars/Olympus")
    assert refused.value.code == "unknown_timezone"
