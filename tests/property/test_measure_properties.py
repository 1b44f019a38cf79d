"""Windows tile their range in any zone; a level's time adds up whatever the range is cut into."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from domain.aggregates import fold, merge, value
from domain.metering import (
    NO_CHANGES,
    LevelCurve,
    LevelSums,
    Placed,
    level_seconds,
    measured,
    percentile,
    prorated_sum,
    usage_of,
    weighted_sum,
)
from domain.money import EXACT
from domain.windows import cut_windows, rolling_windows, session_windows
from schemas.measures import Measure
from schemas.meters import Aggregation, Meter, Percent

START = datetime(2020, 1, 1, tzinfo=UTC)
YEARS_S = 10 * 365 * 86_400
MINUTE = timedelta(minutes=1)

instants = st.integers(0, YEARS_S * 1000).map(lambda ms: START + timedelta(milliseconds=ms))
ZONES = (
    "UTC America/New_York America/Havana America/St_Johns Europe/Vienna Africa/Cairo Africa/Casablanca Asia/Kathmandu"
    " Asia/Gaza Australia/Lord_Howe Pacific/Chatham Antarctica/Troll"
)
zones = st.sampled_from(ZONES.split())
minutes = st.integers(1, 1440).map(lambda count: f"PT{count}M")
windows = st.sampled_from(["hour", "day", "week", "month"]) | minutes


@given(instants, st.integers(1, 5 * 86_400), windows, zones)
def test_windows_tile_a_range_and_ranges_share_their_edges(
    start: datetime, seconds: int, window: str, zone: str
) -> None:
    end = start + timedelta(seconds=seconds)
    whole = cut_windows(start, end, window, zone)
    assert all(one.end == following.start for one, following in pairwise(whole))
    assert (whole[0].start, whole[-1].end) == (start, end)
    # The edges inside do not depend on where the range was cut.
    middle = whole[len(whole) // 2].start
    if middle > start:
        left, right = (cut_windows(first, last, window, zone) for first, last in ((start, middle), (middle, end)))
        assert [*left, *right] == whole


@given(instants, st.integers(1, 7200), st.integers(1, 600))
def test_rolling_windows_slide_by_a_minute_over_the_range(start: datetime, seconds: int, length: int) -> None:
    end = start + timedelta(seconds=seconds)
    rolled = rolling_windows(start, end, length * MINUTE)
    assert all(later.end - earlier.end == MINUTE for earlier, later in pairwise(rolled))
    assert all(start <= one.end < end and one.end - one.start == length * MINUTE for one in rolled)
    assert len(rolled) in {seconds // 60, seconds // 60 + 1}


@given(st.lists(st.integers(0, 400), max_size=30), st.integers(1, 60), st.integers(1, 399))
def test_every_event_lies_in_one_session_and_ranges_count_each_once(offsets: list[int], gap_s: int, cut: int) -> None:
    gap, times = timedelta(seconds=gap_s), [START + timedelta(seconds=offset) for offset in offsets]
    begin, end, middle = START, START + timedelta(seconds=401), START + timedelta(seconds=cut)
    sessions = session_windows(times, begin, end, gap)
    assert all(sum(one.start <= at < one.end for one in sessions) == 1 for at in times)
    assert all(one.end <= following.start for one, following in pairwise(sessions))
    assert all(one.end - gap in times and one.start in times for one in sessions)
    assert session_windows(times, begin, middle, gap) + session_windows(times, middle, end, gap) == sessions


levels = st.decimals(min_value=-(10**20), max_value=10**20, places=12, allow_nan=False)
changes = st.lists(st.tuples(st.integers(-50, 150), levels), max_size=12).map(
    lambda found: sorted(found, key=lambda c: c[0])
)
cuts = st.lists(st.integers(0, 100), min_size=2, max_size=8, unique=True).map(sorted)


@given(changes, cuts)
def test_level_seconds_add_up_over_any_split(found: list[tuple[int, Decimal]], at: list[int]) -> None:
    whole = level_seconds(found, at[0], at[-1])
    assert sum((Fraction(level_seconds(found, *part)) for part in pairwise(at)), Fraction(0)) == Fraction(whole)


@given(changes, cuts)
def test_a_level_by_windows_is_the_level_by_range(found: list[tuple[int, Decimal]], at: list[int]) -> None:
    whole = weighted_sum([found], at[0], at[-1])
    parts = [(weighted_sum([found], *part), part[1] - part[0]) for part in pairwise(at)]
    told = [(Fraction(part), length) for part, length in parts if part is not None]
    if whole is None:
        assert not told
        return
    mean = sum((part * length for part, length in told), Fraction(0)) / (at[-1] - at[0])
    # Each window is rounded at its 12th digit, and so is the range.
    assert abs(mean - Fraction(whole)) <= Fraction(1, 10**12)


@given(changes, st.integers(0, 99))
def test_a_level_that_never_changes_is_its_own_average(found: list[tuple[int, Decimal]], start: int) -> None:
    before = [change for change in found if change[0] < start]
    expected = before[-1][1] if before else None
    assert weighted_sum([before], start, 100) == expected


def sums_of(found: list[tuple[int, Decimal]], begin: int, end: int) -> LevelSums:
    """The changes of one level within a stretch, added up as a store does: by what each adds to the level before it."""
    sums, level = NO_CHANGES, Decimal(0)
    for at, following in found:
        if begin <= at < end:
            added = EXACT.subtract(following, level)
            sums = sums.plus(LevelSums(1, added, EXACT.multiply(added, Decimal(at))))
        level = following
    return sums


@given(st.lists(changes, min_size=1, max_size=3), cuts, st.booleans())
def test_a_curve_of_sums_is_the_level_of_its_changes(
    series: list[list[tuple[int, Decimal]]], at: list[int], carry: bool
) -> None:
    start, end = at[0], at[-1]
    told = [[one for one in found if carry or one[0] >= start] for found in series]
    before, stretches = NO_CHANGES, dict[int, LevelSums]()
    for found in told:
        earlier = [level for time, level in found if time < start]
        before = before.plus(LevelSums(1, earlier[-1], Decimal(0)) if earlier else NO_CHANGES)
        for left, right in pairwise(at):
            stretches[left] = stretches.get(left, NO_CHANGES).plus(sums_of(found, left, right))
    curve = LevelCurve(before, start, stretches)
    for left in at:
        for right in at:
            if left < right:
                assert curve.average(left, right) == weighted_sum(told, left, right)
    assert curve.average(end, end + 7) == weighted_sum(
        [[one for one in found if one[0] < end] for found in told], end, end + 7
    )


matches = st.lists(
    st.builds(
        lambda ms, level, region: Placed((0, level, "", (region,)), ms, (0, 0, 0, 0)),
        st.integers(0, 10_000_000),
        st.decimals(min_value=-1000, max_value=1000, places=3, allow_nan=False),
        st.sampled_from(["", "eu", "us"]),
    ),
    max_size=20,
).map(
    lambda found: [
        one._replace(position=(0, 0, place, 0)) for place, one in enumerate(sorted(found, key=lambda o: o.time_ms))
    ]
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
METER = Meter(id="met_1", key="m", event_types=("t",), aggregation="sum", value_property="v", dimensions=("region",))
ADDITIVE: tuple[Aggregation, ...] = ("count", "sum")


@given(matches, st.sampled_from(["PT7M", "hour", "day"]), zones, st.sampled_from(ADDITIVE))
def test_windows_and_groups_sum_to_the_range(
    found: list[Placed], window: str, zone: str, aggregation: Aggregation
) -> None:
    cut = cut_windows(EPOCH, EPOCH + timedelta(seconds=10_001), window, zone)
    for group_by in ((), ("region",)):
        usage = usage_of(METER, Measure(aggregation=aggregation), found, cut, group_by)
        assert sum((Fraction(row.value or 0) for row in usage.rows), Fraction(0)) == Fraction(usage.total or 0)


@given(matches, st.integers(0, 20), st.sampled_from(["min", "max", "avg", "latest", "sum", "count"]))
def test_a_range_is_the_merge_of_its_parts(found: list[Placed], place: int, aggregation: Aggregation) -> None:
    merged = merge(fold(found[:place]), fold(found[place:]))
    assert value(merged, aggregation) == measured(found, Measure(aggregation=aggregation), 0, 10_000_001)


@given(st.lists(levels, min_size=1, max_size=40), st.sampled_from([50, 90, 95, 99]))
def test_a_percentile_is_exceeded_by_no_more_than_its_rest(values: list[Decimal], percent: Percent) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(one <= found for one in values) * 100 >= percent * len(values)
    assert sum(one < found for one in values) * 100 < percent * len(values)


@given(matches)
def test_prorated_units_lie_between_none_and_all_of_them(found: list[Placed]) -> None:
    there = [one for one in found if (one.match[1] or 0) >= 0]
    prorated = prorated_sum(there, EPOCH, EPOCH + timedelta(seconds=10_000))
    assert 0 <= prorated <= sum((one.match[1] or Decimal(0) for one in there), Decimal(0))
    # Before the period they count whole.
    whole = prorated_sum(there, EPOCH + timedelta(seconds=20_000), EPOCH + timedelta(seconds=30_000))
    assert whole == sum((one.match[1] or Decimal(0) for one in there), Decimal(0))
