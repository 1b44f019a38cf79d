from datetime import UTC, datetime, timedelta

import pytest

from domain.errors import Invalid
from domain.recurrences import boundary_after, boundary_before, resets_between, usage_period_at
from schemas.periods import Cadence, Recurrence

DAY, MONTH = Cadence(unit="day"), Cadence(unit="month")


def day(number: int, hour: int = 0) -> datetime:
    return datetime(2026, 6, number, hour, tzinfo=UTC)


MONTHLY_THEN_DAILY = (
    Recurrence(effective_at=day(5), anchor=day(1), cadence=MONTH),
    Recurrence(effective_at=day(10, 6), anchor=day(1, 12), cadence=DAY),
)


def test_a_period_is_cut_where_its_recurrence_begins_and_where_the_next_one_does() -> None:
    monthly = usage_period_at(MONTHLY_THEN_DAILY, day(7))
    assert (monthly.start, monthly.end) == (day(5), day(10, 6))
    stub = usage_period_at(MONTHLY_THEN_DAILY, day(10, 6))
    assert (stub.start, stub.end) == (day(10, 6), day(10, 12))
    daily = usage_period_at(MONTHLY_THEN_DAILY, day(20))
    assert (daily.start, daily.end) == (day(19, 12), day(20, 12))


def test_before_the_first_recurrence_it_is_the_first_period() -> None:
    assert usage_period_at(MONTHLY_THEN_DAILY, day(1)) == usage_period_at(MONTHLY_THEN_DAILY, day(5))


def test_resets_are_the_starts_of_usage_periods() -> None:
    resets = resets_between(MONTHLY_THEN_DAILY, day(1), day(12, 12))
    assert resets == [day(5), day(10, 6), day(10, 12), day(11, 12)]
    assert all(usage_period_at(MONTHLY_THEN_DAILY, at).start == at for at in resets)
    assert resets_between(MONTHLY_THEN_DAILY, day(11, 12), day(12, 12) + timedelta(seconds=1)) == [
        day(11, 12),
        day(12, 12),
    ]


def test_a_recurrence_that_was_replaced_resets_nothing_any_more() -> None:
    daily_then_monthly = (
        Recurrence(effective_at=day(5), anchor=day(1), cadence=DAY),
        Recurrence(effective_at=day(7, 12), anchor=day(1), cadence=MONTH),
    )
    assert resets_between(daily_then_monthly, day(1), day(30)) == [day(5), day(6), day(7), day(7, 12)]
    assert usage_period_at(daily_then_monthly, day(7)).end == day(7, 12)


def test_the_boundary_before_a_day_that_the_zone_skipped_is_that_of_the_day_before_it() -> None:
    anchor = datetime.fromisoformat("2011-12-28T00:00:00-10:00")
    after_the_gap = datetime.fromisoformat("2011-12-31T00:00:00+14:00")
    before = boundary_before(anchor, DAY, "Pacific/Apia", after_the_gap, inclusive=False)
    assert before == datetime.fromisoformat("2011-12-29T00:00:00-10:00")
    assert boundary_after(anchor, DAY, "Pacific/Apia", before, inclusive=False) == after_the_gap


def test_recurrences_come_one_after_another() -> None:
    for given in ((), MONTHLY_THEN_DAILY[::-1]):
        with pytest.raises(Invalid) as refused:
            usage_period_at(given, day(7))
        assert refused.value.code == "recurrences_not_ascending"
