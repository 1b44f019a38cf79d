"""Periods tile time, whatever the zone does to its clocks; parts of an amount sum to it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from domain.periods import billing_period_at, boundary, calendar_anchor, next_period, period_at, periods_between
from domain.proration import prorate
from schemas.periods import BillingAnchor, Cadence

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


@given(
    st.decimals(min_value=-(10**9), max_value=10**9, places=2, allow_nan=False),
    st.lists(instants, min_size=2, max_size=12, unique=True).map(sorted),
)
def test_the_parts_of_a_period_sum_to_the_whole_and_have_its_sign(amount: Decimal, cuts: list[datetime]) -> None:
    parts = prorate(amount, cuts, "USD")
    assert len(parts) == len(cuts) - 1
    assert sum(parts, Decimal(0)) == amount
    assert all(part * amount >= 0 for part in parts)
