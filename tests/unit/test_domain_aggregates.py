"""What a range of events comes to, aggregation by aggregation, computed from the events themselves."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from domain.aggregates import fold, value
from domain.counters import value_of
from domain.errors import Invalid
from domain.metering import (
    MeterEvent,
    Placed,
    level_at,
    level_seconds,
    matches_of,
    measured,
    percentile,
    prorated_sum,
    prorated_unique_count,
    rolling_usage,
    session_usage,
    usage_of,
    weighted_sum,
)
from domain.quantities import format_quantity
from domain.windows import cut_windows
from schemas.balances import Counter, CounterKey
from schemas.measures import Measure
from schemas.meters import Aggregation, Meter, Percent
from schemas.usage import Usage

D = Decimal
HOUR = 3_600_000
START = datetime(2026, 6, 1, tzinfo=UTC)
START_MS = int(START.timestamp()) * 1000
END = START + timedelta(hours=10)


def meter(aggregation: Aggregation = "sum", **changes: Any) -> Meter:
    fields: dict[str, Any] = {"id": "met_1", "key": "m", "event_types": ("t", "u"), "dimensions": ("region",)}
    path = None if aggregation == "count" else "key" if aggregation == "unique_count" else "value"
    return Meter(**(fields | {"aggregation": aggregation, "value_property": path} | changes))


def event(hour: float, value: object = None, *, kind: str = "t", offset: int = 0, **more: object) -> MeterEvent:
    """Of so many hours after the start."""
    return MeterEvent(kind, START_MS + int(hour * HOUR), (0, 0, offset, 0), {"value": value, **more})


def placed(*events: MeterEvent, of: Meter | None = None) -> list[Placed]:
    return matches_of(of or meter(), events).matches


def whole(measure: Measure, matches: list[Placed]) -> Decimal | None:
    return measured(matches, measure, START_MS, START_MS + 10 * HOUR)


NUMBERS: tuple[Aggregation, ...] = ("sum", "min", "max", "avg", "latest", "weighted_sum", "percentile")


def test_a_null_is_skipped_by_every_aggregation_but_count() -> None:
    events = (event(1, None), event(2, "4", offset=1), event(3, 6, kind="u", offset=2), event(4, 9, kind="v", offset=3))
    found = matches_of(meter(), events)
    assert found.issues == []
    values = {each: whole(Measure(aggregation=each), found.matches) for each in NUMBERS}
    expected = {"sum": 10, "min": 4, "max": 6, "avg": 5, "latest": 6, "weighted_sum": D("4.6"), "percentile": 4}
    assert values == expected
    assert whole(Measure(aggregation="count"), placed(*events, of=meter("count"))) == 3


def test_an_unusable_value_is_an_issue_and_never_zero() -> None:
    matches, issues = matches_of(meter(), [event(1, "abc"), event(2, 5, offset=1), event(3, "1e30", offset=2)])
    assert issues == [((0, 0, 0, 0), "not_a_number"), ((0, 0, 2, 0), "quantity_out_of_range")]
    assert [whole(Measure(aggregation=each), matches) for each in ("min", "avg")] == [5, 5]


def test_nothing_is_zero_for_count_unique_count_and_sum_and_no_value_for_the_others() -> None:
    for aggregation in ("count", "unique_count", "sum"):
        assert whole(Measure(aggregation=aggregation), []) == 0
    for each in NUMBERS[1:]:
        assert whole(Measure(aggregation=each), []) is None


def test_what_lies_at_the_end_of_a_range_is_not_in_it() -> None:
    matches = placed(event(0, 1), event(10, 2, offset=1))
    assert whole(Measure(aggregation="sum"), matches) == 1


def test_matches_are_put_in_order_of_time_and_ties_go_to_the_later_position() -> None:
    matches = placed(event(2, 7, offset=2), event(2, 8, offset=1), event(1, 9, offset=3))
    assert [one.match[1] for one in matches] == [9, 8, 7]
    assert whole(Measure(aggregation="latest"), matches) == 7
    assert measured(matches, Measure(aggregation="weighted_sum"), START_MS + 2 * HOUR, START_MS + 3 * HOUR) == 7


def test_a_level_carries_over_from_before_the_range_unless_told_not_to() -> None:
    matches = placed(event(-5, 10), event(5, 20, offset=1))
    assert whole(Measure(aggregation="weighted_sum"), matches) == 15
    assert whole(Measure(aggregation="weighted_sum", carry=False), matches) == 10
    only_before = placed(event(-5, 10))
    assert whole(Measure(aggregation="weighted_sum"), only_before) == 10
    assert whole(Measure(aggregation="weighted_sum", carry=False), only_before) is None


def test_a_level_before_the_first_event_is_zero() -> None:
    assert whole(Measure(aggregation="weighted_sum"), placed(event(7.5, 8))) == 2
    assert whole(Measure(aggregation="weighted_sum"), placed(event(10, 8))) is None


def test_levels_of_different_dimensions_add_up() -> None:
    matches = placed(event(0, 6, region="eu"), event(5, 8, region="us", offset=1))
    assert whole(Measure(aggregation="weighted_sum"), matches) == 10


def test_a_time_weighted_level_is_rounded_once_to_12_digits() -> None:
    assert weighted_sum([[(0, D(1))], [(0, D(1))]], 0, 3) == 2
    assert weighted_sum([[(1, D(1))], [(1, D(1))]], 0, 3) == D("1.333333333333")
    with pytest.raises(Invalid, match="after it starts"):
        weighted_sum([], 3, 3)


def test_level_seconds_are_exact_to_the_millisecond() -> None:
    changes = [(500, D("0.001")), (501, D(2)), (501, D(4))]
    assert level_seconds(changes, 0, 1_000) == D("1.996001")
    assert level_at(changes, 500) is None
    assert level_at(changes, 501) == D("0.001")
    assert level_at(changes, 502) == 4
    with pytest.raises(Invalid):
        level_seconds(changes, 5, 5)


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (90, 90), (95, 95), (99, 99)])
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(percent: Percent, expected: int) -> None:
    assert percentile(map(Decimal, range(100, 0, -1)), percent) == expected
    assert percentile([D(3), D(1)], percent) == (1 if percent == 50 else 3)
    assert percentile([D(3)], percent) == 3
    assert percentile([], percent) is None


def test_units_count_for_the_rest_of_the_period_and_whole_from_before_it() -> None:
    june = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
    matches = placed(event(-24, 5), event(24 * 15 + 6, 4, offset=1), event(24 * 15, -2, offset=2), event(24 * 30, 9))
    assert prorated_sum(matches, *june, basis="days") == 6
    assert prorated_sum(matches, *june) == D("5.966666666667")


def test_a_key_counts_from_when_it_is_first_seen() -> None:
    subject = meter("unique_count")
    matches = placed(event(8, key="a"), event(5, key="a", offset=1), event(9, key="b", offset=2), of=subject)
    assert prorated_unique_count(matches, START, END) == D("0.6")
    assert prorated_unique_count(placed(event(1), of=subject), START, END) == 0


def text(value: Decimal | None) -> str:
    return "none" if value is None else format_quantity(value)


def texts(usage: Usage) -> tuple[list[str], str]:
    return [text(row.value) for row in usage.rows], text(usage.total)


def test_windows_have_a_row_each_and_groups_only_where_they_have_usage() -> None:
    matches = placed(event(0.5, 1, region="eu"), event(2.5, 2, offset=1), event(2.6, 3, region="eu", offset=2))
    windows = cut_windows(START, START + timedelta(hours=3), "hour", "UTC")
    measure = Measure(aggregation="sum")
    assert texts(usage_of(meter(), measure, matches, windows)) == (["1", "0", "5"], "6")
    grouped = usage_of(meter(), measure, matches, windows, ["region"])
    assert [(row.window_start.hour, row.dimensions["region"]) for row in grouped.rows] == [
        (0, "eu"),
        (2, None),
        (2, "eu"),
    ]
    assert texts(grouped) == (["1", "2", "3"], "6")
    with pytest.raises(Invalid) as refused:
        usage_of(meter(), measure, matches, windows, ["zone"])
    assert refused.value.code == "dimension_unknown"


def test_without_a_match_windows_still_have_their_rows_and_groups_have_none() -> None:
    windows = cut_windows(START, START + timedelta(hours=2), "hour", "UTC")
    assert texts(usage_of(meter(), Measure(aggregation="sum"), [], windows)) == (["0", "0"], "0")
    assert usage_of(meter(), Measure(aggregation="sum"), [], windows, ["region"]).rows == ()


def test_a_level_reaches_into_the_windows_after_it() -> None:
    windows = cut_windows(START, START + timedelta(hours=3), "hour", "UTC")
    matches = placed(event(-1, 8, region="eu"), event(1.5, 4, region="eu", offset=1))
    carried = usage_of(meter(), Measure(aggregation="weighted_sum"), matches, windows, ["region"])
    assert texts(carried) == (["8", "6", "4"], "6")
    fresh = usage_of(meter(), Measure(aggregation="weighted_sum", carry=False), matches, windows)
    assert texts(fresh) == (["none", "2", "4"], "2")


def test_a_rolling_window_slides_by_minute() -> None:
    matches = placed(event(0, 1), event(0.02, 2, offset=1))
    end = START + timedelta(minutes=4)
    rows = rolling_usage(meter(), Measure(aggregation="sum"), matches, START, end, timedelta(minutes=2))
    assert [row.window_end.minute for row in rows] == [0, 1, 2, 3]
    assert [text(row.value) for row in rows] == ["0", "1", "3", "2"]


def test_sessions_are_those_of_each_group() -> None:
    matches = placed(event(0, 1, region="eu"), event(0.4, 2, offset=1), event(0.8, 4, region="eu", offset=2))
    gap, measure = timedelta(minutes=30), Measure(aggregation="sum")
    (one,) = session_usage(meter(), measure, matches, START, END, gap)
    assert (text(one.value), one.window_end - one.window_start) == ("7", timedelta(hours=1.3))
    each = session_usage(meter(), measure, matches, START, END, gap, ["region"])
    assert [(row.dimensions["region"], text(row.value)) for row in each] == [("eu", "1"), (None, "2"), ("eu", "4")]


def test_the_example_of_the_guide_8_for_18_hours_and_4_for_6_is_7() -> None:
    matches = placed(event(0, 8), event(18, 4, offset=1))
    assert measured(matches, Measure(aggregation="weighted_sum"), START_MS, START_MS + 24 * HOUR) == 7


@pytest.mark.parametrize("aggregation", ["weighted_sum", "percentile"])
def test_what_no_state_holds_is_no_value_of_one(aggregation: Aggregation) -> None:
    """It must never come out as another aggregate of the same matches."""
    with pytest.raises(ValueError, match=aggregation):
        value(fold(placed(event(1, 5))), aggregation)
    key = CounterKey(meter_id="met_1", generation=1, start_s=0, end_s=60)
    counter = Counter(key=key, aggregation=aggregation, guard={}, matches=1, values=1, highest=Decimal(5))
    with pytest.raises(ValueError, match=aggregation):
        value_of(counter)
