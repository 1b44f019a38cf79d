"""Windows tile their range, whatever the zone does."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from domain.errors import Invalid
from domain.windows import cut_windows, moving_window, rolling_windows, session_windows

START = datetime(2026, 10, 24, 12, 34, 56, 789_000, tzinfo=UTC)
END = datetime(2026, 10, 27, 1, 2, 3, tzinfo=UTC)


@pytest.mark.parametrize("window", [None, "minute", "hour", "day", "week", "month", "PT15M", "PT7M", "PT24H"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "America/New_York"])
def test_windows_tile_the_range(window: str | None, zone: str) -> None:
    windows = cut_windows(START, END, window, zone)
    assert windows[0].start == START
    assert windows[-1].end == END
    assert all(one.end == following.start for one, following in pairwise(windows))
    assert all(one.start < one.end for one in windows)


def test_days_begin_at_local_midnight_also_where_they_have_25_hours() -> None:
    windows = cut_windows(START, END, "day", "Europe/Berlin")
    starts = [one.start.astimezone(ZoneInfo("Europe/Berlin")) for one in windows[1:]]
    assert [(at.hour, at.minute) for at in starts] == [(0, 0)] * len(starts)
    assert [one.end - one.start for one in windows[1:2]] == [timedelta(hours=25)]


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    weeks = cut_windows(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC), "week", "UTC")
    assert [one.start.day for one in weeks] == [1, 2, 9, 16, 23, 30]
    months = cut_windows(datetime(2026, 1, 31, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC), "month", "UTC")
    assert [(one.start.month, one.start.day) for one in months] == [(1, 31), (2, 1), (3, 1), (4, 1), (5, 1)]


def test_minutes_that_do_not_divide_a_day_begin_anew_at_midnight() -> None:
    day = datetime(2026, 1, 1, tzinfo=UTC)
    windows = cut_windows(day, day + timedelta(days=2), "PT7H", "UTC")
    assert [one.start.hour for one in windows] == [0, 7, 14, 21, 0, 7, 14, 21]


@pytest.mark.parametrize(
    ("window", "zone", "start", "code"),
    [
        ("fortnight", "UTC", START, "window_unknown"),
        ("PT0M", "UTC", START, "window_unknown"),
        ("PT1441M", "UTC", START, "window_unknown"),
        ("PT1S", "UTC", START, "window_unknown"),
        ("day", "Nowhere", START, "unknown_timezone"),
        ("day", "UTC", END, "range_empty"),
        ("minute", "UTC", datetime(2026, 1, 1, tzinfo=UTC), "too_many_windows"),
        ("day", "UTC", datetime(1900, 1, 1, tzinfo=UTC), "too_many_windows"),
    ],
)
def test_what_is_no_window_is_refused(window: str, zone: str, start: datetime, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        cut_windows(start, END, window, zone)
    assert refused.value.code == code


def test_a_range_at_the_end_of_the_calendar_is_refused() -> None:
    with pytest.raises(Invalid) as refused:
        cut_windows(datetime(9999, 12, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), "month", "UTC")
    assert refused.value.code == "range_too_long"


def minute(number: float) -> datetime:
    return datetime(2026, 6, 1, 12, tzinfo=UTC) + timedelta(minutes=number)


def test_a_rolling_window_is_the_last_n_before_each_whole_minute() -> None:
    windows = rolling_windows(minute(0.5), minute(3), timedelta(hours=1))
    assert [one.end for one in windows] == [minute(1), minute(2)]
    assert {one.end - one.start for one in windows} == {timedelta(hours=1)}
    assert rolling_windows(minute(0), minute(1), timedelta(minutes=1))[0].end == minute(0)
    assert rolling_windows(minute(0.1), minute(0.9), timedelta(minutes=1)) == []


def test_a_session_ends_where_no_event_comes_for_the_gap() -> None:
    gap = timedelta(minutes=5)
    times = [minute(14), minute(0), minute(4.9), minute(9.9)]
    sessions = session_windows(times, minute(0), minute(60), gap)
    assert [(one.start, one.end) for one in sessions] == [
        (minute(0), minute(9.9)),
        (minute(9.9), minute(19)),
    ]
    assert session_windows([], minute(0), minute(60), gap) == []


def test_a_session_belongs_to_the_range_that_it_begins_in() -> None:
    gap, times = timedelta(minutes=5), [minute(-2), minute(1), minute(58), minute(62)]
    first, second = (session_windows(times, minute(at), minute(at + 60), gap) for at in (-60, 0))
    assert [(one.start, one.end) for one in first] == [(minute(-2), minute(6))]
    assert [(one.start, one.end) for one in second] == [(minute(58), minute(67))]


@pytest.mark.parametrize(
    ("length", "hours", "code"),
    [
        (timedelta(seconds=90), 1, "window_unknown"),
        (timedelta(0), 1, "window_unknown"),
        (timedelta(days=367), 1, "window_unknown"),
        (timedelta(minutes=5), 0, "range_empty"),
        (timedelta(minutes=5), 200, "too_many_windows"),
    ],
)
def test_what_is_no_rolling_window_is_refused(length: timedelta, hours: int, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        rolling_windows(minute(0), minute(60 * hours), length)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("gap", "minutes", "code"),
    [
        (timedelta(0), 1, "window_unknown"),
        (timedelta(days=367), 1, "window_unknown"),
        (timedelta(minutes=5), 0, "range_empty"),
        (timedelta(microseconds=1), 20_000, "too_many_windows"),
    ],
)
def test_what_is_no_session_is_refused(gap: timedelta, minutes: int, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        session_windows(map(minute, range(10_001)), minute(0), minute(minutes), gap)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("window", "kind", "length"),
    [
        ("rolling:PT90M", "rolling", timedelta(minutes=90)),
        ("rolling:P7D", "rolling", timedelta(days=7)),
        ("session:PT30S", "session", timedelta(seconds=30)),
        ("session:PT2H", "session", timedelta(hours=2)),
    ],
)
def test_a_moving_window_says_its_kind_and_its_length(window: str, kind: str, length: timedelta) -> None:
    assert moving_window(window) == (kind, length)


def test_other_windows_do_not_move() -> None:
    assert [moving_window(window) for window in (None, "hour", "PT15M", "nonsense")] == [None] * 4


@pytest.mark.parametrize(
    "window",
    [
        "rolling:",
        "rolling:hour",
        "rolling:P1H",
        "rolling:PT1D",
        "session:PT0M",
        "sliding:PT1M",
        ":PT1M",
        "rolling:PT1H ",
    ],
)
def test_a_moving_window_that_is_misspelt_is_refused(window: str) -> None:
    with pytest.raises(Invalid) as refused:
        moving_window(window)
    assert refused.value.code == "window_unknown"


def test_rolling_windows_at_the_ends_of_the_calendar_are_refused_or_told() -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    with pytest.raises(Invalid) as refused:
        rolling_windows(first, first + timedelta(minutes=1), timedelta(minutes=1))
    assert refused.value.code == "range_too_long"
    assert rolling_windows(last - timedelta(seconds=1), last, timedelta(minutes=1)) == []


def test_a_day_of_rolling_windows_is_the_most() -> None:
    assert len(rolling_windows(minute(0), minute(1440), timedelta(minutes=5))) == 1440
    with pytest.raises(Invalid, match="1440"):
        rolling_windows(minute(0), minute(1441), timedelta(minutes=5))
