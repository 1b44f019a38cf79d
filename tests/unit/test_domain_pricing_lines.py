"""What applies to a line after its model: order, limits, splits, buckets, commitments; and usage of the wrong shape."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from domain.errors import Invalid
from domain.money import total
from domain.pricing import rate, rate_lines, rerate, validate_price
from domain.pricing.buckets import bucket_steps
from domain.pricing.commitments import commit_lines
from schemas.price_terms import Bucketing, Commitment, PercentageDiscount, PricingUnit, TimeBand, UnitConversion
from schemas.priced_usage import BucketUsage, PricedUsage, TermProgress, ValueUsage, WeighedChange
from schemas.prices import (
    FlatPrice,
    GraduatedPrice,
    MatrixCell,
    MatrixPrice,
    PackagePrice,
    PercentagePrice,
    PerUnitPrice,
    Price,
    RatedLine,
    Tier,
    VolumePrice,
)

D = Decimal
LADDER = (Tier(up_to=D(10), unit_amount=D(10)), Tier(unit_amount=D(1)))


def kinds(line: RatedLine) -> list[tuple[str, str]]:
    return [(step.kind, f"{step.amount.normalize():f}") for step in line.steps]


def billed(lines: tuple[RatedLine, ...]) -> list[str]:
    return [f"{line.amount:f}" for line in lines]


def buckets(*rows: tuple[int, str], zone: str = "UTC") -> PricedUsage:
    start = datetime(2026, 3, 28, tzinfo=UTC)
    return PricedUsage(
        buckets=tuple(BucketUsage(at=start + timedelta(hours=hour), quantity=D(value)) for hour, value in rows),
        zone=zone,
    )


def test_the_order_on_a_line_is_conversion_free_units_price_discounts_maximum_minimum() -> None:
    price = PerUnitPrice(
        unit_amount=D("1.005"),
        free_units=D(1),
        conversion=UnitConversion(factor=D(1000), rounding="up"),
        discounts=(PercentageDiscount(percent=D(10), name="loyal"), PercentageDiscount(percent=D(50))),
        maximum_amount=D(1),
        minimum_amount=D(3),
    )
    line, true_up = rate_lines(price, D(3100), "USD")
    assert kinds(line) == [
        ("conversion", "0"),
        ("free_units", "0"),
        ("units", "3.015"),
        ("rounding", "0.005"),
        ("discount", "-0.3"),
        ("discount", "-1.36"),
        ("maximum", "-0.36"),
    ]
    assert [step.label for step in line.steps if step.kind == "discount"] == ["1: loyal", "2: 50 %"]
    assert (line.kind, line.amount, true_up.kind, true_up.amount) == ("usage", D(1), "true_up", D(2))


def test_each_discount_is_rounded_alone_and_one_of_everything_leaves_nothing() -> None:
    third = PercentageDiscount(percent=D("33.333"))
    assert rate(FlatPrice(amount=D(10), discounts=(third, third)), D(0), "USD").amount == D("4.45")
    assert rate(FlatPrice(amount=D("0.005"), discounts=(PercentageDiscount(percent=D(100)),)), D(0), "USD").amount == 0


def test_amounts_in_a_unit_of_their_own_are_converted_before_they_are_rounded() -> None:
    unit = PricingUnit(code="credits", rate=D("0.025"))
    price = GraduatedPrice(tiers=LADDER, pricing_unit=unit, maximum_amount=D(101))
    assert [(step.unit_amount, step.amount) for step in rate(price, D(11), "USD").steps] == [
        (D("0.250"), D("2.500")),
        (D("0.025"), D("0.025")),
    ]
    assert rate(price, D(20), "USD").exact_amount == D("2.525")


def test_a_minimum_and_a_flat_price_wait_for_the_last_line() -> None:
    price = PerUnitPrice(unit_amount=D(1), minimum_amount=D(10))
    assert billed(rate_lines(price, D(3), "USD", last=False)) == ["3.00"]
    assert billed(rate_lines(price, D(4), "USD", before=D(3))) == ["1.00", "6.00"]
    assert billed(rate_lines(price, D(4), "USD", before=D(3), part=Fraction(1, 3))) == ["1.00"]
    for waiting in (FlatPrice(amount=D(5)), VolumePrice(tiers=LADDER)):
        assert billed(rate_lines(waiting, D(1), "USD", last=False)) == ["0.00"]
    assert billed(rate_lines(FlatPrice(amount=D(5)), D(1), "USD", before=D(1))) == ["5.00"]


def test_a_line_after_others_takes_over_what_they_rounded() -> None:
    price = PerUnitPrice(unit_amount=D("0.004"))
    first, second = rate_lines(price, D(1), "USD"), rate_lines(price, D(2), "USD", before=D(1))
    assert (billed(first), billed(second)) == (["0.00"], ["0.01"])
    assert kinds(second[0]) == [("units", "0.004"), ("carried", "0.004")]


def test_a_flat_price_of_a_tier_is_billed_on_the_first_line_that_reaches_it() -> None:
    tiers = (Tier(up_to=D(10), flat_amount=D(2)), Tier(flat_amount=D(3)))
    price = GraduatedPrice(tiers=tiers, free_units=D(5))
    assert billed(rate_lines(price, D(0), "USD", last=False)) == ["2.00"]
    assert billed(rate_lines(price, D(15), "USD", before=D(0), last=False)) == ["0.00"]
    assert billed(rate_lines(price, D(16), "USD", before=D(15))) == ["3.00"]


def test_late_usage_bills_the_difference_and_takes_back_what_filled_up() -> None:
    price = GraduatedPrice(tiers=LADDER, minimum_amount=D(100))
    lines = rerate(price, D(9), D(2), "USD")
    assert [(line.kind, line.amount) for line in lines] == [("usage", D(70)), ("true_up", D(-70))]
    lines = rerate(price, D(2), D(12), "USD")
    assert [(line.kind, line.amount) for line in lines] == [("usage", D(-82)), ("true_up", D(80))]
    assert rerate(price, D(2), D(2), "USD")[0].steps == ()


def test_a_volume_tier_that_is_left_is_reversed_by_late_usage() -> None:
    (line,) = rerate(VolumePrice(tiers=LADDER), D(11), D(10), "USD")
    assert [(step.quantity, step.unit_amount) for step in line.steps] == [(D(11), D(1)), (D(-10), D(10))]
    assert line.amount == D(-89)


def test_free_units_come_off_buckets_in_the_order_of_time() -> None:
    price = GraduatedPrice(tiers=LADDER, free_units=D(5), bucket=Bucketing(size="hour"))
    usage = buckets((2, "11"), (0, "3"), (1, "4"))
    assert [(part.billable, total([step.amount for step in part.steps])) for part in bucket_steps(price, usage)] == [
        (D(0), D(0)),
        (D(2), D(20)),
        (D(11), D(101)),
    ]
    assert kinds(rate(price, usage, "USD")) == [("free_units", "0"), ("tier_units", "120"), ("tier_units", "1")]


def test_the_hours_of_a_band_are_those_of_the_local_clock() -> None:
    night = TimeBand(start="22:00", end="06:00", unit_amount=D(1))
    price = PerUnitPrice(unit_amount=D(10), bucket=Bucketing(size="hour", bands=(night,)))
    validate_price(price)
    # 28 March 2026, 20:00 and 21:00 UTC: in Berlin one hour later; on the 29th clocks go forward, 04:00 UTC is 06:00.
    usage = buckets((20, "1"), (21, "1"), (27, "1"), (28, "1"), zone="Europe/Berlin")
    line = rate(price, usage, "USD")
    assert sorted((step.label, step.quantity) for step in line.steps) == [("", D(2)), ("22:00-06:00", D(2))]


def test_tiers_are_rated_where_the_commitment_splits_them_never_at_an_average() -> None:
    commitment = Commitment(quantity=D(8), overage_factor=D(2), true_up=True)
    price = GraduatedPrice(tiers=LADDER, commitment=commitment)
    line, *none = rate_lines(price, D(14), "USD")
    # 8 units at 10; 2 more at 10 and 4 at 1 are 24, twice.
    assert (line.amount, none) == (D(80 + 48), [])
    assert kinds(line)[-1] == ("overage", "24")
    assert billed(rate_lines(price, D(3), "USD")) == ["30.00", "50.00"]
    assert billed(rate_lines(price, D(3), "USD", part=Fraction(1, 2))) == ["30.00", "10.00"]


def test_a_commitment_met_in_units_is_charged_where_volume_made_it_cheaper() -> None:
    price = VolumePrice(tiers=LADDER, commitment=Commitment(quantity=D(10)))
    assert billed(rate_lines(price, D(11), "USD")) == ["11.00", "89.00"]
    assert billed(rate_lines(price, D(9), "USD")) == ["90.00"]


def test_a_commitment_per_window_is_of_all_its_groups_and_fills_up_each_window_listed() -> None:
    commitment = Commitment(amount=D(10), per="window", true_up=True, overage_factor=D("1.5"))
    bucket = Bucketing(size="day", group_by=("pod",))
    price = PerUnitPrice(unit_amount=D(1), bucket=bucket, commitment=commitment)
    validate_price(price)
    day = datetime(2026, 3, 28, tzinfo=UTC)
    rows = [(day, "a", 8), (day, "b", 6), (day + timedelta(days=1), "a", 0), (day + timedelta(days=2), "b", 3)]
    usage = PricedUsage(buckets=tuple(BucketUsage(at=at, group=(pod,), quantity=D(q)) for at, pod, q in rows))
    assert billed(rate_lines(price, usage, "USD")) == ["19.00", "17.00"]


def test_a_commitment_over_a_term_counts_units_of_earlier_periods() -> None:
    commitment = Commitment(quantity=D(30), per="term", true_up=True, overage_factor=D(2))
    price = GraduatedPrice(tiers=LADDER, commitment=commitment)
    before = TermProgress(quantity=D(25))
    # 5 units are left: 50; then 5 at 10 and 2 at 1, twice.
    assert billed(rate_lines(price, D(12), "USD", term=before)) == ["154.00"]
    assert billed(rate_lines(price, D(2), "USD", term=before)) == ["20.00"]
    assert billed(rate_lines(price, D(2), "USD", term=TermProgress(quantity=D(25), last=True))) == ["20.00", "30.00"]


def test_a_subscription_commitment_charges_the_excess_of_its_lines_or_fills_them_up() -> None:
    lines = rate_lines(FlatPrice(amount=D(30)), D(1), "USD") + rate_lines(PerUnitPrice(unit_amount=D(1)), D(50), "USD")
    over = Commitment(amount=D(60), overage_factor=D("1.5"))
    assert [(line.kind, line.amount) for line in commit_lines(over, lines, "USD")] == [("usage", D(10))]
    fill = Commitment(amount=D(100), true_up=True)
    assert [(line.kind, line.amount) for line in commit_lines(fill, lines, "USD")] == [("true_up", D(20))]
    assert commit_lines(fill, lines, "USD", last=False) == ()
    assert commit_lines(fill, lines, "USD", part=Fraction(1, 2)) == ()


def test_corrections_beyond_the_usage_pay_nothing_out() -> None:
    price = PercentagePrice(rate_percent=D(10), fixed_amount=D(1))
    line = rate(price, PricedUsage(event_amounts=(D(100), D(-200))), "USD")
    assert kinds(line) == [("rate", "-10"), ("event_fixed", "1"), ("floor", "9")]
    assert line.amount == 0


def test_free_units_of_a_matrix_come_off_its_cells_in_order_and_unlisted_values_cost_the_default() -> None:
    cells = (MatrixCell(values=("us", "l"), unit_amount=D(3)), MatrixCell(values=("eu", "l"), unit_amount=D(2)))
    price = MatrixPrice(dimensions=("region", "size"), cells=cells, default_unit_amount=D(5), free_units=D(4))
    used = (("eu", "l", 10), ("us", "l", 3), ("ap", "", 1))
    usage = PricedUsage(values=tuple(ValueUsage(values=(one, two), quantity=D(q)) for one, two, q in used))
    assert [(step.label, step.quantity, step.amount) for step in rate(price, usage, "USD").steps] == [
        ("", D(4), D(0)),
        ("region=eu, size=l", D(9), D(18)),
        ("region=ap, size=", D(1), D(5)),
    ]


PER_EVENT = PercentagePrice(rate_percent=D(1), fixed_amount=D(1))
HOURLY = PerUnitPrice(unit_amount=D(1), bucket=Bucketing(size="hour"))
BY_REGION = MatrixPrice(dimensions=("region",), cells=(), default_unit_amount=D(1))
COMMITTED = PerUnitPrice(unit_amount=D(1), commitment=Commitment(quantity=D(1)))
SEATS: Any = (WeighedChange(units=D(1), weighed=D(1)),)


@pytest.mark.parametrize(
    ("price", "usage"),
    [
        (PER_EVENT, PricedUsage(quantity=D(1))),
        (PercentagePrice(rate_percent=D(1), event_maximum=D(1)), PricedUsage(quantity=D(1), events=1)),
        (PercentagePrice(rate_percent=D(1), free_events=1), PricedUsage(quantity=D(1), events=1)),
        (HOURLY, PricedUsage(quantity=D(1))),
        (HOURLY, buckets((0, "1"), (0, "2"))),
        (BY_REGION, PricedUsage(quantity=D(1))),
        (BY_REGION, PricedUsage(values=(ValueUsage(values=("eu", "l"), quantity=D(1)),))),
        (BY_REGION, PricedUsage(values=(ValueUsage(values=("eu",), quantity=D(1)),) * 2)),
        (PackagePrice(amount=D(1), package_size=D(1)), PricedUsage(changes=SEATS)),
        (PerUnitPrice(unit_amount=D(1), free_units=D(1)), PricedUsage(changes=SEATS)),
        (PerUnitPrice(unit_amount=D(1), conversion=UnitConversion(factor=D(2))), PricedUsage(changes=SEATS)),
        (PerUnitPrice(unit_amount=D(1)), PricedUsage(changes=(WeighedChange(units=D(0), weighed=D(1)),))),
        (COMMITTED, PricedUsage(changes=SEATS)),
    ],
)
def test_usage_of_another_shape_is_refused_and_never_guessed(price: Price, usage: PricedUsage) -> None:
    validate_price(price)
    with pytest.raises(Invalid) as refused:
        rate(price, usage, "USD")
    assert refused.value.code == "usage_unfit"
