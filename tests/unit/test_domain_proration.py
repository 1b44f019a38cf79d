from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from domain.errors import Invalid
from domain.proration import capped_credit, day_count, prorate, prorated_quantity, rest_of, share, unused_credit

D = Decimal
MARCH = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def test_the_day_of_a_change_belongs_whole_to_the_part_that_begins_on_it() -> None:
    for hour in (0, 10, 23):
        part = share(*MARCH, datetime(2026, 3, 15, hour, tzinfo=UTC), MARCH[1], basis="days")
        assert part == Fraction(17, 31)
    assert share(*MARCH, datetime(2026, 3, 15, 12, tzinfo=UTC), MARCH[1]) == Fraction(33, 62)


def test_days_are_those_of_the_zone() -> None:
    start, end = at("2026-03-01T00:00:00-05:00"), at("2026-04-01T00:00:00-04:00")
    late_on_the_14th = at("2026-03-14T23:00:00-04:00")
    assert share(start, end, late_on_the_14th, end, basis="days", zone="America/New_York") == Fraction(18, 31)
    assert share(start, end, late_on_the_14th, end, basis="days", zone="UTC") == Fraction(17, 31)


def test_a_day_of_23_or_25_hours_is_one_day() -> None:
    assert day_count(at("2026-03-29T00:00:00+01:00"), at("2026-03-30T00:00:00+02:00"), "Europe/Vienna") == 1
    assert day_count(at("2026-10-25T00:00:00+02:00"), at("2026-10-26T00:00:00+01:00"), "Europe/Vienna") == 1
    assert day_count(MARCH[1], MARCH[0], "UTC") == -31


def test_a_period_within_one_day_is_shared_by_seconds() -> None:
    start = at("2026-03-01T10:00:00Z")
    part = share(start, start + timedelta(hours=4), start, start + timedelta(hours=1), basis="days")
    assert part == Fraction(1, 4)


def test_what_lies_outside_the_period_has_no_share() -> None:
    before, after = MARCH[0] - timedelta(days=5), MARCH[1] + timedelta(days=5)
    for basis in ("seconds", "days"):
        assert share(*MARCH, before, MARCH[0], basis=basis) == 0
        assert share(*MARCH, MARCH[1], after, basis=basis) == 0
        assert share(*MARCH, before, after, basis=basis) == 1


def test_parts_by_days_sum_to_the_whole_and_the_last_takes_the_remainder() -> None:
    cuts = [datetime(2026, 2, day, 9, tzinfo=UTC) for day in (1, 2, 3)] + [datetime(2026, 2, 4, 23, tzinfo=UTC)]
    assert prorate(D("100.00"), cuts, "USD", basis="days") == [D("33.33"), D("33.34"), D("33.33")]


def test_an_amount_finer_than_minor_units_is_the_sum_of_its_parts_too() -> None:
    cuts = [datetime(2026, 2, day, tzinfo=UTC) for day in (1, 2, 3, 4)]
    assert prorate(D("0.005"), cuts, "USD") == [0, 0, D("0.005")]


def test_the_rest_is_what_the_time_before_leaves() -> None:
    half = MARCH[0] + (MARCH[1] - MARCH[0]) / 2
    assert rest_of(D("0.05"), *MARCH, half, "USD") == D("0.02")
    assert rest_of(D("0.05"), *MARCH, MARCH[0] - timedelta(1), "USD") == D("0.05")
    assert rest_of(D("0.05"), *MARCH, MARCH[1], "USD") == 0
    with pytest.raises(Invalid) as refused:
        rest_of(D(1), MARCH[1], MARCH[0], half, "USD")
    assert refused.value.code == "empty_period"


def test_a_credit_never_exceeds_what_was_paid_and_not_credited_before() -> None:
    at_15 = datetime(2026, 3, 15, tzinfo=UTC)
    assert unused_credit(D(31), *MARCH, at_15, "USD", paid=D(31)) == D("17.00")
    assert unused_credit(D(31), *MARCH, at_15, "USD", paid=D(31), credited=D(20)) == D(11)
    assert unused_credit(D(31), *MARCH, at_15, "USD", paid=D(5)) == D(5)
    assert unused_credit(D(31), *MARCH, at_15, "USD", paid=D(0)) == 0
    assert unused_credit(D(31), *MARCH, at_15, "USD", credited=D(31)) == 0
    assert capped_credit(D(-1), D(5)) == 0
    assert capped_credit(D(1), D(5), D(6)) == 0


def test_a_quantity_is_shared_to_12_digits() -> None:
    assert prorated_quantity(D(100), Fraction(12, 31)) == D("38.709677419355")
