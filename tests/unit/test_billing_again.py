"""Computing an invoice again: the same from the same usage, and every difference shown where it is."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from msgspec.structs import replace

from domain.billing import bill, counted_by, period_ranges, ranges_of, recomputed
from domain.cuts import check_known
from domain.errors import Invalid, NotFound
from schemas.billing import BilledMeter, Contracts, Counted
from schemas.closing import DuePeriod
from schemas.invoices import Invoice, KeptInvoice
from schemas.meters import Meter
from schemas.prices import FlatPrice, PerUnitPrice, PlanPrice
from tests.support import held
from tests.support.closing import plan

MAY, JUNE, JULY = (datetime(2026, month, 1, tzinfo=UTC) for month in (5, 6, 7))
CALLS = Meter(id="met_1", key="calls", event_types=("call",), aggregation="count", generation=3)
PLAN = replace(
    plan(),
    prices=(
        PlanPrice(id="pri_fee", key="fee", currency="EUR", price=FlatPrice(amount=Decimal(31))),
        PlanPrice(
            id="pri_calls",
            key="calls",
            currency="EUR",
            price=PerUnitPrice(unit_amount=Decimal("0.015")),
            meter_id="met_1",
        ),
    ),
)
HELD = held.HELD
CUSTOMER = replace(held.CUSTOMER, aliases=("acme-old",))
CONTRACTS = Contracts(
    held={"sub_1": HELD}, plans={"plv_1": PLAN}, customers={"cus_1": CUSTOMER}, meters={"met_1": CALLS}
)
PERIOD = DuePeriod(subscription_id="sub_1", start=JUNE, end=JULY)
PLACE = BilledMeter("sub_1", JUNE, "met_1")


def counted(value: int, recount: int) -> dict[BilledMeter, Counted]:
    return {PLACE: Counted(value=Decimal(value), recount=Decimal(recount))}


def invoice(quantity: int) -> KeptInvoice:
    ids = iter(range(100))
    billing = bill(CONTRACTS, [PERIOD], counted(quantity, quantity), 7, lambda prefix: f"{prefix}_{next(ids)}")
    fields = {name: getattr(billing.invoices[0], name) for name in Invoice.__struct_fields__}
    return KeptInvoice(**fields, number="INV-000001", as_of=JULY, issued_at=JULY)


def test_the_same_usage_comes_to_the_same_invoice() -> None:
    again = recomputed(invoice(33), HELD, PLAN, counted(33, 33))
    assert again.same
    assert [line.billed.amount for line in again.lines] == [Decimal("31.00"), Decimal("0.50")]
    assert again.total.billed == again.total.windows == again.total.events == Decimal("31.50")
    assert (again.cut, again.as_of) == (7, JULY)


def test_a_difference_is_shown_even_where_it_rounds_to_the_same_cent() -> None:
    again = recomputed(invoice(33), HELD, PLAN, counted(33, 100))
    assert not again.same
    assert [line.same for line in again.lines] == [True, False]
    assert again.total.events == Decimal("32.50")
    cheap = replace(PLAN.prices[1], price=PerUnitPrice(unit_amount=Decimal("0.0001")))
    plan = replace(PLAN, prices=(PLAN.prices[0], cheap))
    unrounded = recomputed(invoice(33), HELD, plan, counted(33, 33))
    assert not unrounded.same


def test_usage_that_was_not_read_is_not_zero() -> None:
    with pytest.raises(Invalid) as refused:
        recomputed(invoice(33), HELD, PLAN, {})
    assert refused.value.code == "usage_missing"


def test_usage_is_read_by_all_names_and_by_the_generation_that_was_billed() -> None:
    assert ranges_of(CONTRACTS, [PERIOD])[HELD.scope][PLACE].references == ("cus_1", "acme", "acme-old")
    then = replace(counted_by(CONTRACTS, HELD), references=("cus_1",), generations={"met_1": 2})
    [found] = period_ranges(HELD, PLAN, PERIOD, then).values()
    assert (found.references, found.generation, found.start, found.end) == (("cus_1",), 2, JUNE, JULY)


def test_a_cut_that_was_never_raised_cannot_be_read_at() -> None:
    check_known(1, current=4)
    check_known(4, current=4)
    for unknown in (0, -1, 5):
        with pytest.raises(NotFound):
            check_known(unknown, current=4)
