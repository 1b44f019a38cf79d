"""Usage read from ClickHouse equals the fold of `domain/` over the same events, for any instants, cuts and groups."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

import pytest
import pytest_asyncio

from domain.aggregates import EMPTY, value
from domain.errors import Invalid
from domain.windows import cut_windows
from runtime.clock import SystemClock
from schemas.meters import AggregateState, Meter
from schemas.scope import Scope
from schemas.usage import UsageQuery, UsageRange, UsageState
from stores.clickhouse.aggregates import columns_of, value_of
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.usage import UsageStore
from stores.clickhouse.usage_many import (
    recount_of_many,
    usage_at_positions,
    usage_of_many,
)
from tests.support.clickhouse import migrated_database
from tests.support.usage_events import (
    AGGREGATIONS,
    ENVIRONMENT,
    METERS,
    TENANT,
    TOPIC,
    TestEvent,
    folded,
    insert_events,
    random_events,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Berlin leaves summer time on 25 October 2026 at 01:00 UTC.
SCOPE = Scope(TENANT, ENVIRONMENT)
START = datetime(2026, 10, 23, tzinfo=UTC)
SPAN = timedelta(days=5)
CUSTOMERS = ("acme", "acme-old", "globex", "initech")
SEED = 20261123


@pytest.fixture(scope="module")
def events() -> list[TestEvent]:
    return random_events(Random(SEED), 1200, START, SPAN, CUSTOMERS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(clickhouse_url: str, events: list[TestEvent]) -> AsyncIterator[ClickhouseClient]:
    async with migrated_database(clickhouse_url, "usage_reads") as client:
        await insert_events(client, events, SystemClock().now() + timedelta(seconds=30))
        yield client


def query(meter: Meter, start: datetime, end: datetime, **rest: object) -> UsageQuery:
    scope = {"tenant": TENANT, "environment": ENVIRONMENT, "meter": meter, "references": None}
    return UsageQuery(**{**scope, "start": start, "end": end, **rest})  # type: ignore[arg-type]


def instant(random: Random) -> datetime:
    unit = random.choice([1, 1000, 60_000, 3_600_000])
    return START + timedelta(milliseconds=random.randrange(int(SPAN.total_seconds() * 1000)) // unit * unit)


def same(found: UsageState, expected: AggregateState) -> None:
    assert (found.matches, found.values, found.total) == (expected.matches, expected.values, expected.total)
    assert (found.lowest, found.highest, found.latest) == (expected.lowest, expected.highest, expected.latest)
    assert found.uniques == len(expected.unique)


@pytest.mark.parametrize("meter", METERS, ids=lambda meter: meter.key)
async def test_usage_of_any_range_equals_the_fold(
    client: ClickhouseClient, events: list[TestEvent], meter: Meter
) -> None:
    random = Random(f"{SEED}-{meter.key}")
    store = UsageStore(client)
    for _ in range(12):
        start, end = sorted((instant(random), instant(random) + timedelta(milliseconds=1)))
        customers = random.choice([None, ("acme", "acme-old"), ("globex",), ("nobody",)])
        cut = random.choice([None, 2, 5, 100])
        seen = [event for event in events if cut is None or event.cut < cut]
        asked = query(meter, start, end, references=customers, cut=cut)
        expected = folded(seen, meter, start, end, customers)
        same(await store.total(asked), expected)
        assert (await store.usage(asked)).total == value(expected, meter.aggregation)


@pytest.mark.parametrize("window", ["hour", "day", "week", "month", "PT15M", "PT90M"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu"])
async def test_windows_equal_the_fold_across_dst(
    client: ClickhouseClient, events: list[TestEvent], window: str, zone: str
) -> None:
    random = Random(f"{SEED}-{window}-{zone}")
    meter = random.choice(METERS)
    start = instant(random) if window != "day" else START - timedelta(hours=2)
    end = start + timedelta(days=4, seconds=17, milliseconds=250)
    usage = await UsageStore(client).usage(query(meter, start, end, window=window, timezone=zone))
    expected = [
        (one.start, one.end, value(folded(events, meter, one.start, one.end), meter.aggregation))
        for one in cut_windows(start, end, window, zone)
    ]
    assert [(row.window_start, row.window_end, row.value) for row in usage.rows] == expected
    assert usage.total == value(folded(events, meter, start, end), meter.aggregation)


async def test_the_day_on_which_summer_time_ends_has_25_hours(client: ClickhouseClient) -> None:
    start, end = datetime(2026, 10, 24, 22, tzinfo=UTC), datetime(2026, 10, 25, 23, tzinfo=UTC)
    days = await UsageStore(client).usage(query(METERS[0], start, end, window="day", timezone="Europe/Berlin"))
    hours = await UsageStore(client).usage(query(METERS[0], start, end, window="hour", timezone="Europe/Berlin"))
    assert [(row.window_start, row.window_end) for row in days.rows] == [(start, end)]
    assert len(hours.rows) == 25
    assert days.total == hours.total == sum(row.value or 0 for row in hours.rows)


@pytest.mark.parametrize("meter", METERS, ids=lambda meter: meter.key)
async def test_groups_and_filters_of_dimensions_equal_the_fold(
    client: ClickhouseClient, events: list[TestEvent], meter: Meter
) -> None:
    end = START + SPAN - timedelta(seconds=1)
    grouped = await UsageStore(client).usage(query(meter, START, end, window="day", group_by=("region",)))
    for row in grouped.rows:
        region = row.dimensions["region"] or ""
        matching = [event for event in events if event.region == region]
        state = folded(matching, meter, row.window_start, row.window_end)
        assert row.value == value(state, meter.aggregation)
    groups = {
        (day, event.region)
        for event in events
        for day in range(5)
        if START + timedelta(days=day) <= event.time < min(START + timedelta(days=day + 1), end)
        and folded([event], meter, START, end) != EMPTY
    }
    assert len(grouped.rows) == len(groups)
    filtered = await UsageStore(client).usage(query(meter, START, end, filters={"region": ("eu", "us")}))
    chosen = [event for event in events if event.region in ("eu", "us")]
    assert filtered.total == value(folded(chosen, meter, START, end), meter.aggregation)


async def test_an_empty_range_has_zero_or_no_value(client: ClickhouseClient) -> None:
    start = START + timedelta(days=100)
    for meter in METERS:
        usage = await UsageStore(client).usage(query(meter, start, start + timedelta(hours=2), window="hour"))
        nothing = Decimal(0) if meter.aggregation in ("count", "sum", "unique_count") else None
        assert [row.value for row in usage.rows] == [nothing, nothing]
        assert usage.total == nothing


async def test_an_unknown_dimension_is_refused(client: ClickhouseClient) -> None:
    with pytest.raises(Invalid, match="no dimension"):
        await UsageStore(client).usage(query(METERS[0], START, START + SPAN, group_by=("colour",)))


async def test_the_most_windows_that_are_allowed_can_be_read(client: ClickhouseClient, events: list[TestEvent]) -> None:
    end = START + timedelta(minutes=7000)
    usage = await UsageStore(client).usage(query(METERS[0], START, end, window="minute"))
    assert len(usage.rows) == 7000
    assert sum(row.value or 0 for row in usage.rows) == folded(events, METERS[0], START, end).matches


async def test_many_ranges_at_a_cut_equal_the_fold_and_their_recount(
    client: ClickhouseClient, events: list[TestEvent]
) -> None:
    random = Random(SEED)
    ranges, expected = [], []
    cut = 6
    for _ in range(60):
        meter = random.choice(METERS)
        customers = random.choice([("acme", "acme-old"), ("globex",), ("initech", "globex"), ("nobody",)])
        start, end = sorted((instant(random), instant(random) + timedelta(milliseconds=1)))
        ranges.append(UsageRange(meter_id=meter.id, generation=1, references=customers, start=start, end=end))
        seen = [event for event in events if event.cut < cut]
        expected.append(folded(seen, meter, start, end, customers))
    scoped = [(SCOPE, one) for one in ranges]
    usage = await usage_of_many(client, scoped, cut)
    recount = await recount_of_many(client, scoped, cut)
    for found, counted, state in zip(usage, recount, expected, strict=True):
        same(found, state)
        same(counted, state)
    for meter in METERS:
        alike = [place for place, one in enumerate(ranges) if one.meter_id == meter.id]
        for read, whole in ((usage_of_many, usage), (recount_of_many, recount)):
            asked = [scoped[place] for place in alike]
            narrow = await read(client, asked, cut, columns_of([meter.aggregation]))
            values = [value_of(state, meter.aggregation) for state in narrow]
            assert values == [value_of(whole[place], meter.aggregation) for place in alike]


async def test_a_customer_of_any_name_is_found(client: ClickhouseClient) -> None:
    name = "a \"quoted\" 'odd' \\ näme\t\N{SNOWMAN}"
    at = START - timedelta(days=10)
    odd = TestEvent(
        id="odd",
        customer=name,
        time=at,
        amount=Decimal(7),
        user="ann",
        region="eu",
        partition=1,
        offset=100_000,
        index=0,
        cut=1,
    )
    await insert_events(client, [odd], SystemClock().now() + timedelta(minutes=1))
    day = UsageRange(
        meter_id="met_sum", generation=1, references=("other", name), start=at, end=at + timedelta(days=1, seconds=1)
    )
    for read in (usage_of_many, recount_of_many):
        [found] = await read(client, [(SCOPE, day)], 2)
        assert (found.matches, found.total) == (1, Decimal(7))


async def test_the_same_names_of_two_tenants_are_told_apart(client: ClickhouseClient, events: list[TestEvent]) -> None:
    start, end = START + timedelta(seconds=7), START + SPAN
    mine = UsageRange(meter_id="met_sum", generation=1, references=("acme",), start=start, end=end)
    asked = [(SCOPE, mine), (Scope("other", ENVIRONMENT), mine), (Scope(TENANT, "test"), mine)]
    expected = folded(events, METERS[AGGREGATIONS.index("sum")], start, end, ("acme",))
    assert expected.matches
    for read in (usage_of_many, recount_of_many):
        found = await read(client, asked, 1000, columns_of(["sum"]))
        assert [(one.matches, one.total) for one in found] == [(expected.matches, expected.total), (0, 0), (0, 0)]


async def test_a_seed_reads_whole_cuts_from_windows_and_the_rest_by_position(
    client: ClickhouseClient, events: list[TestEvent]
) -> None:
    random = Random(SEED)
    for _ in range(20):
        meter = random.choice(METERS)
        start = instant(random).replace(microsecond=0)
        end = start + timedelta(hours=random.randrange(1, 100), seconds=random.randrange(60))
        cut_below = random.randrange(1, 6)
        # Every block below the cut lies at or below the vector, as it does when both are read from the ledger.
        below = [event for event in events if event.cut < cut_below]
        vector = {
            partition: max([event.offset for event in below if event.partition == partition], default=-1)
            + random.randrange(3)
            for partition in (0, 1)
        }
        seen = [event for event in events if event.offset <= vector[event.partition]]
        found = await usage_at_positions(
            client,
            TENANT,
            ENVIRONMENT,
            ("acme", "acme-old"),
            meter.id,
            1,
            start=start,
            end=end,
            cut_below=cut_below,
            topic_id=TOPIC,
            vector=vector,
        )
        expected = folded(seen, meter, start, end, ("acme", "acme-old"))
        same(found, expected)
        assert value_of(found, meter.aggregation) == value(expected, meter.aggregation)
