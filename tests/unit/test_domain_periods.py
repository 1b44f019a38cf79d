from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from domain.errors import Invalid
from domain.periods import (
    billing_period_at,
    boundary,
    calendar_anchor,
    next_period,
    period_at,
    periods_between,
    validate_cadence,
    zone_of,
)
from domain.proration import prorate, share
from schemas.periods import FOREVER, Cadence, CadenceUnit, Period

MONTH = Cadence(unit="month")
DAY = Cadence(unit="day")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def test_a_month_anchor_of_the_31st_clamps_and_comes_back() -> None:
    anchor = at("2026-01-31T00:00:00Z")
    days = [boundary(anchor, MONTH, "UTC", n).date().isoformat() for n in range(5)]
    assert days == ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]
    assert boundary(anchor, MONTH, "UTC", 25).date().isoformat() == "2028-02-29"


def test_boundaries_stay_at_local_midnight_across_dst() -> None:
    anchor = at("2026-03-01T00:00:00-05:00")
    period = period_at(anchor, MONTH, "America/New_York", at("2026-03-20T00:00:00Z"))
    assert (period.start, period.end) == (at("2026-03-01T05:00:00Z"), at("2026-04-01T04:00:00Z"))


def test_a_dst_day_has_23_or_25_hours() -> None:
    anchor = at("2026-01-01T00:00:00+01:00")
    lengths = [
        (period.end - period.start) // timedelta(hours=1)
        for day in ("2026-03-29T12:00:00Z", "2026-10-25T12:00:00Z", "2026-06-01T12:00:00Z")
        for period in [period_at(anchor, DAY, "Europe/Vienna", at(day))]
    ]
    assert lengths == [23, 25, 24]


def test_a_local_time_that_dst_skips_is_taken_an_hour_later() -> None:
    anchor = at("2026-03-28T02:30:00+01:00")
    assert boundary(anchor, DAY, "Europe/Vienna", 1) == at("2026-03-29T03:30:00+02:00")
    assert boundary(anchor, DAY, "Europe/Vienna", 2) == at("2026-03-30T02:30:00+02:00")


def test_hours_are_elapsed_time() -> None:
    anchor = at("2026-10-25T00:00:00Z")
    starts = [boundary(anchor, Cadence(unit="hour"), "Europe/Vienna", n) for n in range(3)]
    assert starts == [anchor, anchor + timedelta(hours=1), anchor + timedelta(hours=2)]


def test_an_instant_on_a_boundary_belongs_to_the_period_it_opens() -> None:
    anchor = at("2026-01-05T00:00:00Z")
    assert period_at(anchor, MONTH, "UTC", at("2026-02-05T00:00:00Z")) == Period(
        start=at("2026-02-05T00:00:00Z"), end=at("2026-03-05T00:00:00Z"), index=1
    )


def test_a_day_that_the_zone_skipped_is_no_period() -> None:
    anchor = at("2011-12-28T00:00:00-10:00")
    days = periods_between(anchor, DAY, "Pacific/Apia", anchor, at("2012-01-02T00:00:00+14:00"))
    assert all(day.start < day.end for day in days)
    assert all(earlier.end == later.start for earlier, later in pairwise(days))
    walked = [days[0]]
    while walked[-1].end < days[-1].end:
        walked.append(next_period(anchor, DAY, "Pacific/Apia", walked[-1]))
    assert walked == days


def test_never_is_one_period_from_the_anchor_on() -> None:
    anchor, never = at("2026-01-05T00:00:00Z"), Cadence(unit="never")
    assert period_at(anchor, never, "UTC", at("2031-01-01T00:00:00Z")) == Period(start=anchor, end=FOREVER, index=0)
    with pytest.raises(Invalid, match="outside"):
        period_at(anchor, never, "UTC", at("2026-01-04T00:00:00Z"))


@pytest.mark.parametrize(
    ("unit", "start", "anchor"),
    [
        ("month", "2026-05-01T00:00:00Z", "2026-05-01T00:00:00Z"),
        ("month", "2026-05-01T00:00:01Z", "2026-06-01T00:00:00Z"),
        ("week", "2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z"),
        ("week", "2026-11-24T10:00:00Z", "2026-11-30T00:00:00Z"),
        ("quarter", "2026-11-24T10:00:00Z", "2027-01-01T00:00:00Z"),
        ("half_year", "2026-03-24T10:00:00Z", "2026-07-01T00:00:00Z"),
        ("year", "2026-03-24T10:00:00Z", "2027-01-01T00:00:00Z"),
        ("hour", "2026-03-24T10:20:00Z", "2026-03-24T11:00:00Z"),
        ("minute", "2026-03-24T10:20:07Z", "2026-03-24T10:21:00Z"),
        ("never", "2026-03-24T10:20:00Z", "2026-03-24T10:20:00Z"),
    ],
)
def test_a_calendar_anchor_is_the_first_start_of_the_unit(unit: CadenceUnit, start: str, anchor: str) -> None:
    assert calendar_anchor(at(start), Cadence(unit=unit), "UTC") == at(anchor)


def test_an_hour_that_dst_repeats_starts_twice() -> None:
    second_half_past_one = at("2026-11-01T01:30:00-05:00")
    anchor = calendar_anchor(second_half_past_one, Cadence(unit="hour"), "America/New_York")
    assert anchor == at("2026-11-01T02:00:00-05:00")


def test_calendar_billing_begins_with_a_stub_unless_it_starts_on_the_boundary() -> None:
    start = at("2026-01-15T00:00:00Z")
    stub = billing_period_at(start, "calendar", MONTH, "UTC", start)
    assert (stub.start, stub.end, stub.index) == (start, at("2026-02-01T00:00:00Z"), -1)
    assert billing_period_at(start, "calendar", MONTH, "UTC", stub.end).index == 0
    full = billing_period_at(stub.end, "calendar", MONTH, "UTC", stub.end)
    assert (full.start, full.end) == (stub.end, at("2026-03-01T00:00:00Z"))
    assert billing_period_at(start, "anniversary", MONTH, "UTC", start).end == at("2026-02-15T00:00:00Z")
    with pytest.raises(Invalid) as refused:
        billing_period_at(start, "calendar", MONTH, "UTC", start - timedelta(seconds=1))
    assert refused.value.code == "before_start"


def test_what_is_no_zone_cadence_or_anchor_is_refused() -> None:
    for name in ("", "Nowhere/Land", "../etc/passwd", "/etc/passwd", "a\0b"):
        with pytest.raises(Invalid) as refused:
            zone_of(name)
        assert refused.value.code == "unknown_timezone"
    with pytest.raises(Invalid):
        validate_cadence(Cadence(unit="day", count=0))
    with pytest.raises(Invalid) as fraction:
        boundary(at("2026-01-01T00:00:00.5Z"), DAY, "UTC", 1)
    assert fraction.value.code == "anchor_not_whole_seconds"
    with pytest.raises(Invalid) as beyond:
        boundary(at("2026-01-01T00:00:00Z"), DAY, "UTC", 10**9)
    assert beyond.value.code == "period_out_of_range"


def test_from_15_march_is_17_of_31_days() -> None:
    start, end = at("2026-03-01T00:00:00Z"), at("2026-04-01T00:00:00Z")
    part = share(start, end, at("2026-03-15T00:00:00Z"), end)
    assert (part.numerator, part.denominator) == (17, 31)
    assert share(start, end, end, end) == 0


def test_the_last_part_takes_the_remainder() -> None:
    cuts = [at(f"2026-03-0{day}T00:00:00Z") for day in (1, 2, 3, 4)]
    assert prorate(Decimal("100.00"), cuts, "USD") == [Decimal("33.33"), Decimal("33.34"), Decimal("33.33")]
    assert prorate(Decimal(1), cuts, "JPY") == [Decimal(0), Decimal(1), Decimal(0)]
    with pytest.raises(Invalid):
        prorate(Decimal(1), cuts[:1], "USD")
    with pytest.raises(Invalid):
        prorate(Decimal(1), [cuts[1], cuts[0]], "USD")
