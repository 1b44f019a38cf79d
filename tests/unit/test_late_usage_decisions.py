"""What late usage decides without any service: which periods are rated again, and what of them is billed."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from msgspec.structs import replace

from domain.late_usage import (
    adjusted,
    adjustment_invoice,
    adjustment_lines,
    changed,
    late_ranges,
    late_starts,
    sold_besides,
    spans_to_read,
)
from schemas.addons import AddonVersion
from schemas.billing import Billing, Counted, CountedBy
from schemas.late_usage import BilledUsage, LateMeter, LateUsage, SoldPrice
from schemas.meters import Meter
from schemas.periods import Cadence
from schemas.plan_phases import Phase, PlanVersion, RateCard
from schemas.prices import PackagePrice, PerUnitPrice, PlanPrice, Price
from schemas.subscription_life import Sold
from tests.support.late_usage import APRIL, BILLED, CONTRACTS, HELD, INVOICE, JUNE, MAY, NAMES, PLACE, SPAN

D = Decimal
HOUR = 3600
MONTH = Cadence(unit="month")
FEE = PerUnitPrice(unit_amount=D(1))
BILLING = Billing(held=HELD, invoices=(INVOICE,), by=CountedBy(references=NAMES, generations={}), failed=None)


def late(price: Price, billed: BilledUsage = BILLED) -> LateUsage:
    kept = PlanPrice(id="pri_calls", key="calls", currency="EUR", price=price, meter_id="met_count")
    return LateUsage(billed={"sub_1": (billed,)}, prices={"pri_calls": SoldPrice(price=kept, cadence="month")})


def counted(value: int, recount: int | None = None) -> dict[LateMeter, Counted]:
    return {PLACE: Counted(value=D(value), recount=D(value if recount is None else recount))}


def hour_of(at: datetime) -> int:
    return int(at.timestamp()) // HOUR


def new_id(prefix: str) -> str:
    return f"{prefix}_new"


def test_only_periods_with_late_usage_are_rated_again_from_where_they_begin() -> None:
    april = replace(BILLED, period_start=APRIL, period_end=MAY)
    other = replace(BILLED, generation=1)
    hours = [frozenset({hour_of(MAY)})]
    assert late_starts(CONTRACTS, [SPAN], [frozenset()]) == {}
    assert late_starts(CONTRACTS, [SPAN], hours) == {"sub_1": APRIL}
    assert changed(CONTRACTS, [SPAN], hours, [april, BILLED, other]) == {"sub_1": (BILLED,)}
    [ranges] = late_ranges(CONTRACTS, {"sub_1": (BILLED,)}).values()
    assert [(one.generation, one.references, one.start, one.end) for one in ranges.values()] == [(2, NAMES, MAY, JUNE)]


def test_an_hour_on_a_ragged_boundary_belongs_to_both_periods() -> None:
    middle = MAY.replace(minute=30)
    before = replace(BILLED, period_start=APRIL, period_end=middle)
    after = replace(BILLED, period_start=middle, period_end=JUNE)
    assert changed(CONTRACTS, [SPAN], [{hour_of(MAY)}], [before, after]) == {"sub_1": (before, after)}


def test_a_level_that_was_set_late_changes_every_period_after_it() -> None:
    level = Meter(id="met_count", key="seats", event_types=("seats",), aggregation="weighted_sum", value_property="n")
    for carry, changes in ((True, {"sub_1": (BILLED,)}), (False, {})):
        contracts = replace(CONTRACTS, meters={"met_count": replace(level, carry=carry)})
        assert changed(contracts, [SPAN], [{hour_of(APRIL)}], [BILLED]) == changes
        [(_, read)] = spans_to_read(contracts, [SPAN])
        assert (read.start < SPAN.start) is carry


def test_a_level_that_was_set_late_in_the_period_changes_a_line_that_begins_after_it() -> None:
    level = Meter(id="met_count", key="seats", event_types=("seats",), aggregation="weighted_sum", value_property="n")
    contracts = replace(CONTRACTS, meters={"met_count": replace(level, carry=False)})
    from_the_middle = replace(BILLED, period_start=MAY.replace(day=15), whole=(MAY, JUNE))
    hours = [{hour_of(MAY.replace(day=5))}]
    assert changed(contracts, [SPAN], hours, [from_the_middle]) == {"sub_1": (from_the_middle,)}
    assert changed(CONTRACTS, [SPAN], hours, [from_the_middle]) == {}


def test_prices_of_every_phase_that_was_held_are_known_to_late_usage() -> None:
    prices = {name: PlanPrice(id=f"pri_{name}", key=name, currency="EUR", price=FEE) for name in ("first", "then")}
    version = PlanVersion(
        id="plv_1",
        plan_id="pla_1",
        plan_key="pro",
        version=1,
        status="published",
        currency="EUR",
        cadence=MONTH,
        phases=tuple(
            Phase(key=name, rate_cards=(RateCard(price=price, cadence=MONTH, timing="in_arrears"),))
            for name, price in prices.items()
        ),
    )
    known = sold_besides(replace(HELD, sold=Sold(plans={"plv_1": version})))
    assert {name: one.price for name, one in known.items()} == {price.id: price for price in prices.values()}


def test_a_price_that_others_of_the_batch_hold_keeps_the_cadence_that_it_was_sold_with() -> None:
    year = Cadence(unit="year")
    price = PlanPrice(id="pri_space", key="space", currency="EUR", price=FEE)
    addon = AddonVersion(
        id="adv_1",
        addon_id="add_1",
        addon_key="space",
        version=1,
        status="published",
        currency="EUR",
        max_quantity=None,
        rate_cards=(RateCard(price=price, cadence=year, timing="in_arrears"),),
    )
    known = sold_besides(replace(HELD, sold=Sold(plans={}, addons={"adv_1": addon})))
    assert (HELD.cadence, known["pri_space"].cadence) == ("month", "year")


def test_other_names_rate_everything_again_and_names_that_were_not_kept_nothing() -> None:
    renamed = replace(SPAN, names=("cus_1", "other"))
    assert changed(CONTRACTS, [renamed], [frozenset()], [BILLED]) == {"sub_1": (BILLED,)}
    assert late_starts(CONTRACTS, [replace(SPAN, names=("acme", "cus_1"))], [frozenset()]) == {}
    assert late_starts(CONTRACTS, [replace(SPAN, names=None)], [frozenset()]) == {}


def test_the_difference_is_a_line_on_the_first_invoice_and_in_its_sums() -> None:
    made = adjusted(BILLING, late(PackagePrice(amount=D(5), package_size=D(4))), counted(9), new_id)
    [invoice] = made.invoices
    [line] = invoice.lines
    assert (line.kind, line.quantity, line.amount, line.period_start) == ("adjustment", D(6), D("10.00"), MAY)
    assert line.adjusts is not None
    assert (line.adjusts.sequence, line.adjusts.quantity_before, line.adjusts.quantity_after) == (2, D(3), D(9))
    assert (invoice.total, invoice.amount_due, invoice.state) == (D("10.00"), D("10.00"), "open")


def test_usage_that_went_away_is_given_back() -> None:
    [line] = adjustment_lines(HELD, late(PerUnitPrice(unit_amount=D(2))), counted(1), new_id)
    assert (line.quantity, line.amount) == (D(-2), D("-4.00"))


def test_a_difference_below_a_cent_makes_no_line_and_no_invoice() -> None:
    cheap = late(PerUnitPrice(unit_amount=D("0.001")))
    assert adjusted(BILLING, cheap, counted(4), new_id) == BILLING
    assert adjustment_invoice(CONTRACTS, "sub_1", cheap, counted(4), 9, new_id).invoices == ()
    assert [line.amount for line in adjustment_lines(HELD, cheap, counted(6), new_id)] == [D("0.01")]


@pytest.mark.parametrize("usage", [counted(9, recount=8), {}])
def test_usage_that_is_not_certain_stops_the_invoice_with_its_adjustment(usage: dict[LateMeter, Counted]) -> None:
    price = late(PerUnitPrice(unit_amount=D(1)))
    code = "recount_differs" if usage else "meter_not_found"
    stopped = adjusted(BILLING, price, usage, new_id)
    assert stopped.failed is not None
    assert (stopped.invoices, stopped.failed.code, stopped.failed.start) == ((), code, JUNE)
    alone = adjustment_invoice(CONTRACTS, "sub_1", price, usage, 9, new_id)
    assert alone.failed is not None
    assert (alone.invoices, alone.failed.code, alone.failed.start) == ((), code, MAY)


def test_a_minimum_of_a_part_of_a_period_is_that_of_the_part() -> None:
    middle = datetime(2026, 5, 16, 12, tzinfo=UTC)
    held = replace(HELD, start_at=middle, billing="calendar")
    stub = replace(BILLED, period_start=middle, quantity=D(0))
    place = PLACE._replace(start=middle)
    price = late(PerUnitPrice(unit_amount=D(1), minimum_amount=D(10)), stub)
    usage = {place: Counted(value=D(7), recount=D(7))}
    [line] = adjustment_lines(held, price, usage, new_id)
    assert line.amount == D("2.00")  # 7, of which the minimum of half a month billed 5
