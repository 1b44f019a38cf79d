"""Periods tile time, whatever the zone does to its clocks; parts of an amount sum to it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.periods import billing_period_at, boundary, calendar_anchor, next_period, period_at, periods_between
from domain.proration import day_count, prorate, rest_of, share, unused_credit
from domain.recurrences import resets_between, usage_period_at
from schemas.periods import BillingAnchor, Cadence, CadenceUnit, ProrationBasis, Recurrence

ZONES = [
    "UTC",
    "America/New_York",
    "America/Los_Angeles",
    "America/St_Johns",
    "America/Sao_Paulo",
    "America/Havana",
    "Europe/London",
    "Europe/Vienna",
    "Europe/Lisbon",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Asia/Gaza",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
    "Antarctica/Troll",
]
instants = st.integers(0, 20 * 365 * 86_400).map(lambda s: datetime(2010, 1, 1, tzinfo=UTC) + timedelta(seconds=s))
# Month ends, where clamping happens.
ends_of_months = st.builds(
    lambda year, month, day, hour: datetime(year, month, 1, hour, tzinfo=UTC) + timedelta(days=day),
    st.integers(2010, 2029),
    st.integers(1, 12),
    st.integers(27, 31),
    st.integers(0, 23),
)
anchors = instants | ends_of_months
zones = st.sampled_from(ZONES)
cadences = st.builds(
    Cadence,
    unit=st.sampled_from(["minute", "hour", "day", "week", "month", "quarter", "half_year", "year"]),
    count=st.integers(1, 5),
)


@given(anchors, cadences, zones, instants)
def test_every_instant_lies_in_exactly_one_period_and_the_next_one_follows(
    anchor: datetime, cadence: Cadence, zone: str, instant: datetime
) -> None:
    period = period_at(anchor, cadence, zone, instant)
    assert period.start <= instant < period.end
    assert period_at(anchor, cadence, zone, period.start) == period
    assert period_at(anchor, cadence, zone, period.end - timedelta(microseconds=1)) == period
    following = next_period(anchor, cadence, zone, period)
    assert following.start == period.end
    assert following == period_at(anchor, cadence, zone, period.end)


@given(anchors, st.sampled_from(["day", "week", "month", "quarter"]), zones, st.integers(1, 60))
def test_periods_tile_a_range_without_gap_or_overlap(anchor: datetime, unit: str, zone: str, days: int) -> None:
    cadence = Cadence(unit=unit)  # type: ignore[arg-type]
    start = anchor + timedelta(days=7)
    end = start + timedelta(days=days)
    periods = periods_between(anchor, cadence, zone, start, end)
    assert periods[0].start <= start < periods[0].end
    assert periods[-1].start < end <= periods[-1].end
    assert all(earlier.end == later.start for earlier, later in pairwise(periods))


@given(anchors, cadences, zones, st.integers(-40, 40))
def test_boundaries_count_from_the_anchor_and_never_go_back(
    anchor: datetime, cadence: Cadence, zone: str, n: int
) -> None:
    assert boundary(anchor, cadence, zone, 0) == anchor
    assert boundary(anchor, cadence, zone, n) <= boundary(anchor, cadence, zone, n + 1)
    assert boundary(anchor, cadence, zone, n).microsecond == 0


@given(anchors, cadences, zones)
def test_a_calendar_anchor_is_at_or_after_the_start_and_its_own_anchor(
    start: datetime, cadence: Cadence, zone: str
) -> None:
    unit = Cadence(unit=cadence.unit)
    anchor = calendar_anchor(start, unit, zone)
    assert anchor >= start
    assert calendar_anchor(anchor, unit, zone) == anchor


@given(instants, st.sampled_from(["anniversary", "calendar"]), zones, st.integers(1, 2000))
def test_billing_periods_tile_a_subscription_from_its_start(
    start: datetime, anchor: BillingAnchor, zone: str, days: int
) -> None:
    at, last = start, start + timedelta(days=days)
    while at < last:
        period = billing_period_at(start, anchor, Cadence(unit="month"), zone, at)
        assert period.start == at
        assert period.end > at
        at = period.end


@pytest.mark.parametrize("zone", ZONES)
@given(anchors, st.sampled_from(["day", "week", "month", "quarter", "half_year", "year"]), st.integers(1, 3))
@settings(max_examples=8)
def test_periods_tile_ten_years_in_every_zone(zone: str, anchor: datetime, unit: CadenceUnit, count: int) -> None:
    cadence = Cadence(unit=unit, count=count)
    period = period_at(anchor, cadence, zone, anchor)
    assert period.start == anchor
    last = anchor + timedelta(days=3653)
    while period.end < last:
        following = next_period(anchor, cadence, zone, period)
        assert period.end == following.start < following.end
        period = following
    assert period == period_at(anchor, cadence, zone, last - timedelta(seconds=1))


@given(
    st.lists(st.tuples(instants, anchors, cadences, zones), min_size=1, max_size=3, unique_by=lambda each: each[0]),
    st.integers(1, 40),
)
def test_usage_periods_tile_time_though_recurrences_change(
    given_: list[tuple[datetime, datetime, Cadence, str]], steps: int
) -> None:
    recurrences = [
        Recurrence(effective_at=effective_at, anchor=anchor, cadence=cadence, zone=zone)
        for effective_at, anchor, cadence, zone in sorted(given_, key=lambda each: each[0])
    ]
    at = recurrences[0].effective_at
    begun = [at]
    for _ in range(steps):
        period = usage_period_at(recurrences, at)
        assert period.start == at < period.end
        at = period.end
        begun.append(at)
    assert resets_between(recurrences, begun[0], begun[-1]) == begun[:-1]


bases: st.SearchStrategy[ProrationBasis] = st.sampled_from(["seconds", "days"])
cut_lists = st.lists(instants, min_size=2, max_size=12, unique=True).map(sorted)


@given(cut_lists, bases, zones)
def test_the_shares_of_the_parts_of_a_period_sum_to_one(cuts: list[datetime], basis: ProrationBasis, zone: str) -> None:
    shares = [share(cuts[0], cuts[-1], *part, basis=basis, zone=zone) for part in pairwise(cuts)]
    assert sum(shares) == 1
    assert all(0 <= part <= 1 for part in shares)
    assert sum(day_count(*part, zone) for part in pairwise(cuts)) == day_count(cuts[0], cuts[-1], zone)


@given(
    st.decimals(min_value=-(10**9), max_value=10**9, places=2, allow_nan=False),
    cut_lists,
    bases,
    zones,
)
def test_the_parts_of_a_period_sum_to_the_whole_and_have_its_sign(
    amount: Decimal, cuts: list[datetime], basis: ProrationBasis, zone: str
) -> None:
    parts = prorate(amount, cuts, "USD", basis=basis, zone=zone)
    assert len(parts) == len(cuts) - 1
    assert sum(parts, Decimal(0)) == amount
    assert all(part * amount >= 0 for part in parts)


money = st.decimals(min_value=0, max_value=10**9, places=2, allow_nan=False)


@given(money, st.lists(instants, min_size=3, max_size=3, unique=True).map(sorted), bases, zones)
def test_what_is_used_and_what_is_left_are_the_whole(
    amount: Decimal, cuts: list[datetime], basis: ProrationBasis, zone: str
) -> None:
    start, at, end = cuts
    used, left = prorate(amount, cuts, "USD", basis=basis, zone=zone)
    assert rest_of(amount, start, end, at, "USD", basis=basis, zone=zone) == left
    assert used + left == amount


@given(money, money, st.lists(st.tuples(instants, money), max_size=6), bases)
def test_credits_never_exceed_what_was_paid_however_many_there_are(
    paid: Decimal, listed: Decimal, changes: list[tuple[datetime, Decimal]], basis: ProrationBasis
) -> None:
    start, end = datetime(2010, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
    credited = Decimal(0)
    for at, amount in changes:
        price = max(amount, listed)
        credit = unused_credit(price, start, end, at, "USD", paid=paid, credited=credited, basis=basis)
        assert credit >= 0
        credited += credit
    assert credited <= paid
