"""Backtests: which periods are rated, what bounds them, and what two ratings of them differ by."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from msgspec.structs import replace

from domain.backtest import by_customer, check_backtest, check_comparable, compared, periods_ending, rated_to, size_of
from domain.errors import Conflict, Invalid
from schemas.backtests import BacktestRequest, OtherPrices
from schemas.billing import BilledMeter, Contracts, Counted
from schemas.closing import ClosableSubscription
from schemas.meters import Meter
from schemas.prices import FlatPrice, GraduatedPrice, PerUnitPrice, PlanPrice, Tier
from tests.support import held
from tests.support.closing import plan

MAY, JUNE, JULY = (datetime(2026, month, 1, tzinfo=UTC) for month in (5, 6, 7))
SECOND = timedelta(seconds=1)
ASKED = BacktestRequest(start=MAY, end=JULY, customers=("acme",), plan="pro")
CALLS = Meter(id="met_1", key="calls", event_types=("call",), aggregation="count")
FEE = PlanPrice(id="pri_fee", key="fee", currency="EUR", price=FlatPrice(amount=Decimal(31)))
PER_CALL = PlanPrice(
    id="pri_calls", key="calls", currency="EUR", price=PerUnitPrice(unit_amount=Decimal("0.5")), meter_id="met_1"
)
PLAN = replace(plan(), prices=(FEE, PER_CALL))
HELD = replace(
    held.HELD,
    billing="calendar",
    start_at=datetime(2026, 5, 20, tzinfo=UTC),
    closed_to=JULY,
    next_close_at=None,
)
CONTRACTS = Contracts(
    held={"sub_1": HELD}, plans={"plv_1": PLAN}, customers={"cus_1": held.CUSTOMER}, meters={"met_1": CALLS}
)
SAME = OtherPrices(currency="EUR", cadence=None, prices=PLAN.prices)


def _starts(start: datetime, end: datetime, held: ClosableSubscription = HELD, limit: int = 99) -> list[datetime]:
    return [period.start for period in periods_ending(held, start, end, limit)]


def test_periods_that_end_in_the_range_are_rated_however_far_billing_has_got() -> None:
    assert _starts(MAY, JULY) == [HELD.start_at, JUNE]
    assert _starts(JUNE, JULY) == [JUNE]
    assert _starts(JUNE - SECOND, JULY - SECOND) == [HELD.start_at]
    assert _starts(MAY, JULY, limit=1) == [HELD.start_at]
    ended = replace(HELD, end_at=datetime(2026, 6, 10, tzinfo=UTC))
    assert [period.end for period in periods_ending(ended, MAY, JULY, 99)] == [JUNE, ended.end_at]


def test_nothing_is_rated_beyond_what_is_known() -> None:
    assert rated_to(ASKED, JULY + SECOND) == JULY
    assert rated_to(ASKED, JUNE) == JUNE
    assert rated_to(ASKED, MAY - SECOND) == MAY


def _usage(*calls: tuple[datetime, int]) -> dict[BilledMeter, Counted]:
    return {
        BilledMeter("sub_1", start, "met_1"): Counted(value=Decimal(count), recount=Decimal(count))
        for start, count in calls
    }


def test_a_difference_is_what_the_other_prices_bring_more() -> None:
    periods = periods_ending(HELD, MAY, JULY, 99)
    usage = _usage((HELD.start_at, 4), (JUNE, 10))
    rated, refused = compared(CONTRACTS, periods, SAME, usage, 7)
    assert not refused
    assert [one.total.difference for one in rated] == [Decimal(0), Decimal(0)]
    dearer = replace(SAME, prices=(replace(PER_CALL, price=PerUnitPrice(unit_amount=Decimal(4))),))
    rated, refused = compared(CONTRACTS, periods, dearer, usage, 7)
    # A fee of 12.00 for 12 of 31 days and 2.00 against 16.00; then 36.00 against 40.00.
    assert [(one.total.present, one.total.other, one.total.difference) for one in rated] == [
        (Decimal("14.00"), Decimal("16.00"), Decimal("2.00")),
        (Decimal("36.00"), Decimal("40.00"), Decimal("4.00")),
    ]
    assert [line.price_key for line in rated[1].present_lines] == ["fee", "calls"]
    assert [step.kind for step in rated[1].other_lines[0].steps] == ["units"]
    (customer,) = by_customer(CONTRACTS, rated, refused)
    assert (customer.customer_id, customer.total.difference) == ("cus_1", Decimal("6.00"))


def test_a_period_that_cannot_be_rated_ends_the_comparison_with_its_reason() -> None:
    periods = periods_ending(HELD, MAY, JULY, 99)
    rated, refused = compared(CONTRACTS, periods, SAME, _usage((HELD.start_at, 4)), 7)
    assert [one.start for one in rated] == [HELD.start_at]
    assert [one.code for one in refused] == ["meter_not_found"]
    (customer,) = by_customer(CONTRACTS, rated, refused)
    assert customer.refused == tuple(refused)


def test_only_amounts_of_one_currency_over_the_same_periods_are_compared() -> None:
    check_comparable(PLAN, replace(SAME, cadence="month"))
    for other, code in (
        (replace(SAME, currency="USD"), "currency_mixed"),
        (replace(SAME, cadence="year"), "cadence_mismatch"),
    ):
        with pytest.raises(Conflict) as refused:
            check_comparable(PLAN, other)
        assert refused.value.code == code


def test_tiers_count_for_the_size_of_a_backtest() -> None:
    tiers = (Tier(up_to=Decimal(5)), Tier(up_to=Decimal(6)), Tier())
    assert size_of([FEE, PER_CALL, replace(PER_CALL, price=GraduatedPrice(tiers=tiers))]) == 5


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (replace(ASKED, start=MAY.replace(tzinfo=None)), "time_without_zone"),
        (replace(ASKED, end=MAY), "range_empty"),
        (replace(ASKED, end=MAY + timedelta(days=401)), "range_out_of_bounds"),
        (
            replace(ASKED, start=datetime(1999, 1, 1, tzinfo=UTC), end=datetime(1999, 2, 1, tzinfo=UTC)),
            "range_out_of_bounds",
        ),
        (replace(ASKED, customers=None), "cohort_ambiguous"),
        (replace(ASKED, holders_of="pro"), "cohort_ambiguous"),
        (replace(ASKED, plan=None), "prices_or_plan"),
        (replace(ASKED, prices=(), currency="EUR"), "prices_or_plan"),
        (replace(ASKED, currency="EUR"), "prices_or_plan"),
        (replace(ASKED, plan=None, prices=(), currency="EUR", version=1), "prices_or_plan"),
        (replace(ASKED, customers=("acme",) * 201), "backtest_too_large"),
    ],
)
def test_a_backtest_says_who_when_and_what(asked: BacktestRequest, code: str) -> None:
    check_backtest(ASKED)
    with pytest.raises(Invalid) as refused:
        check_backtest(asked)
    assert refused.value.code == code
