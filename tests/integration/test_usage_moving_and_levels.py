"""Levels, percentiles, rolling windows and sessions read from ClickHouse equal what `domain.metering` says of the same events."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace

from domain.errors import Invalid
from domain.identity import event_identity
from domain.metering import Placed, measured, percentile, rolling_usage, session_usage, usage_of
from domain.windows import cut_windows
from runtime.clock import SystemClock
from schemas.measures import Measure
from schemas.meters import Aggregation, Meter, Percent
from schemas.scope import Scope
from schemas.usage import UsageQuery, UsageRange
from stores.clickhouse.aggregates import SAMPLE, value_of
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.levels_many import levels_of_many, recounted_levels_of_many
from stores.clickhouse.usage import UsageStore
from stores.clickhouse.usage_many import usage_of_many
from tests.support.clickhouse import migrated_database
from tests.support.usage_events import (
    AGGREGATIONS,
    ENVIRONMENT,
    LOGGED_MS,
    METERS,
    TENANT,
    TestEvent,
    insert_events,
    matches_of,
    random_events,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCOPE = Scope(TENANT, ENVIRONMENT)
START = datetime(2026, 10, 24, 3, tzinfo=UTC)
SPAN = timedelta(hours=30)
CUSTOMERS = ("acme", "acme-old", "globex")
ACME = ("acme", "acme-old")
SEED = 20261123
MINUTE = timedelta(minutes=1)
MILLISECOND = timedelta(milliseconds=1)
PERCENTS: tuple[Percent, ...] = (50, 90, 95, 99)


@pytest.fixture(scope="module")
def events() -> list[TestEvent]:
    """Many at the same instants, so that ties are told by the log."""
    found = random_events(Random(SEED), 600, START, SPAN, CUSTOMERS)
    return [replace(one, time=one.time.replace(microsecond=0, second=one.time.second // 20 * 20)) for one in found]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(clickhouse_url: str, events: list[TestEvent]) -> AsyncIterator[ClickhouseClient]:
    async with migrated_database(clickhouse_url, "usage_levels") as client:
        await insert_events(client, events, SystemClock().now() + timedelta(seconds=30))
        yield client


def meter(aggregation: Aggregation, **changes: Any) -> Meter:
    """The stored matches of a level or a percentile are those of any meter of a number."""
    stored = aggregation if aggregation in AGGREGATIONS else "latest"
    return replace(METERS[AGGREGATIONS.index(stored)], aggregation=aggregation, **changes)


def query(subject: Meter, start: datetime, end: datetime, **rest: Any) -> UsageQuery:
    fields: dict[str, Any] = {
        "tenant": TENANT,
        "environment": ENVIRONMENT,
        "references": ACME,
        "start": start,
        "end": end,
    }
    return UsageQuery(meter=subject, **(fields | rest))


def measure(subject: Meter) -> Measure:
    return Measure(aggregation=subject.aggregation, percent=subject.percent or 50, carry=subject.carry)


def placed(
    events: Sequence[TestEvent], subject: Meter, customers: Sequence[str] = ACME, cut: int | None = None
) -> list[Placed]:
    """What `domain` takes of the events: the meter's matches of these customers, known at the cut, by time."""
    wanted = next(number for number, one in enumerate(METERS) if one.id == subject.id)
    found = [
        Placed(match, one.time_ms, (LOGGED_MS + one.offset, one.partition, one.offset, one.index))
        for one in events
        if one.customer in customers and (cut is None or one.cut < cut)
        for match in matches_of(one)
        if match[0] == wanted
    ]
    return sorted(found, key=lambda one: (one.time_ms, one.position))


def instant(random: Random) -> datetime:
    unit = random.choice([1, 1000, 60_000, 3_600_000])
    return START + timedelta(milliseconds=random.randrange(int(SPAN.total_seconds() * 1000)) // unit * unit)


LEVELS = [meter("weighted_sum"), meter("weighted_sum", carry=False)]
PERCENTILES = [meter("percentile", percent=percent) for percent in (None, *PERCENTS)]


@pytest.mark.parametrize("group_by", [(), ("region",)])
@pytest.mark.parametrize("subject", [*LEVELS, *PERCENTILES], ids=lambda one: f"{one.key}-{one.percent}-{one.carry}")
async def test_any_range_and_its_windows_equal_the_definition(
    client: ClickhouseClient, events: list[TestEvent], subject: Meter, group_by: tuple[str, ...]
) -> None:
    random = Random(f"{SEED}-{subject}-{group_by}")
    store = UsageStore(client)
    for window in (None, "hour", "day", "PT7H", "minute"):
        start, end = sorted((instant(random), instant(random) + timedelta(milliseconds=1)))
        if window == "minute":
            end = min(end, start + timedelta(hours=2))
        cut = random.choice([None, 2, 4])
        asked = query(subject, start, end, window=window, timezone="Europe/Berlin", group_by=group_by, cut=cut)
        found = placed(events, subject, cut=cut)
        expected = usage_of(
            subject, measure(subject), found, cut_windows(start, end, window, "Europe/Berlin"), group_by
        )
        assert await store.usage(asked) == expected


async def test_a_level_reaches_into_ranges_without_changes(client: ClickhouseClient, events: list[TestEvent]) -> None:
    after = START + SPAN + timedelta(days=400)
    found = placed(events, LEVELS[0])
    usage = await UsageStore(client).usage(query(LEVELS[0], after, after + timedelta(hours=3), window="hour"))
    assert usage.total == measured(found, measure(LEVELS[0]), *milliseconds(after, after + timedelta(hours=3)))
    assert usage.total is not None
    assert [row.value for row in usage.rows] == [usage.total] * 3
    before = START - timedelta(days=30)
    nothing = await UsageStore(client).usage(query(LEVELS[0], before, before + timedelta(hours=2), window="hour"))
    assert ([row.value for row in nothing.rows], nothing.total) == ([None, None], None)
    fresh = await UsageStore(client).usage(query(LEVELS[1], after, after + timedelta(hours=3)))
    assert fresh.total is None


def milliseconds(*instants: datetime) -> list[int]:
    return [int(at.timestamp()) * 1000 + at.microsecond // 1000 for at in instants]


async def test_ranges_beyond_what_is_stored_have_levels_too(client: ClickhouseClient, events: list[TestEvent]) -> None:
    found = placed(events, LEVELS[0])
    for start, end in (
        (datetime(1950, 1, 1, tzinfo=UTC), datetime(1960, 1, 1, tzinfo=UTC)),
        (datetime(1950, 1, 1, tzinfo=UTC), datetime(2300, 1, 1, tzinfo=UTC)),
        (datetime(2200, 1, 1, tzinfo=UTC), datetime(2201, 1, 1, tzinfo=UTC)),
    ):
        usage = await UsageStore(client).usage(query(LEVELS[0], start, end, window="month"))
        assert usage.total == measured(found, measure(LEVELS[0]), *milliseconds(start, end))


async def test_levels_of_many_equal_the_definition_and_their_recount(
    client: ClickhouseClient, events: list[TestEvent]
) -> None:
    random = Random(SEED)
    ranges, expected = [], []
    cut = 4
    for _ in range(40):
        subject = random.choice(LEVELS)
        customers = random.choice([ACME, ("globex",), ("nobody",), ("globex", "acme")])
        start, end = sorted((instant(random), instant(random) + timedelta(milliseconds=1)))
        ranges.append(
            UsageRange(
                meter_id=subject.id, generation=1, references=customers, start=start, end=end, carry=subject.carry
            )
        )
        found = placed(events, subject, customers, cut)
        expected.append(measured(found, measure(subject), *milliseconds(start, end)))
    scoped = [(SCOPE, one) for one in ranges]
    assert any(one is None for one in expected)
    assert any(one is not None for one in expected)
    for read in (levels_of_many, recounted_levels_of_many):
        assert [one.weighted for one in await read(client, scoped, cut)] == expected
    other = [(Scope("other", ENVIRONMENT), ranges[0]), (SCOPE, replace(ranges[0], generation=2))]
    assert [one.weighted for one in await levels_of_many(client, other, cut)] == [None, None]
    assert await levels_of_many(client, [], cut) == []
    with pytest.raises(ValueError, match="not read"):
        value_of((await usage_of_many(client, scoped[:1], cut))[0], "weighted_sum")


@pytest.mark.parametrize("group_by", [(), ("region",)])
@pytest.mark.parametrize(
    "subject",
    [*METERS, LEVELS[0], PERCENTILES[2]],
    ids=lambda one: str(one.aggregation),
)
async def test_rolling_windows_equal_the_definition(
    client: ClickhouseClient, events: list[TestEvent], subject: Meter, group_by: tuple[str, ...]
) -> None:
    random = Random(f"{SEED}-rolling-{subject.aggregation}")
    for window, minutes, length in (
        ("rolling:PT1M", 30, MINUTE),
        ("rolling:PT45M", 20, 45 * MINUTE),
        ("rolling:PT2H", 150, timedelta(hours=2)),
        ("rolling:P1D", 40, timedelta(days=1)),
    ):
        start = instant(random)
        end = start + minutes * MINUTE + timedelta(milliseconds=random.randrange(60_000))
        cut = random.choice([None, 3])
        usage = await UsageStore(client).usage(query(subject, start, end, window=window, group_by=group_by, cut=cut))
        found = placed(events, subject, cut=cut)
        assert list(usage.rows) == rolling_usage(subject, measure(subject), found, start, end, length, group_by)
        assert usage.total == measured(found, measure(subject), *milliseconds(start, end))


@pytest.mark.parametrize("group_by", [(), ("region",)])
@pytest.mark.parametrize("subject", [*METERS, PERCENTILES[2]], ids=lambda one: str(one.aggregation))
async def test_sessions_equal_the_definition(
    client: ClickhouseClient, events: list[TestEvent], subject: Meter, group_by: tuple[str, ...]
) -> None:
    random = Random(f"{SEED}-session-{subject.aggregation}")
    for window, gap in (
        ("session:PT20S", timedelta(seconds=20)),
        ("session:PT5M", 5 * MINUTE),
        ("session:PT1H", timedelta(hours=1)),
        ("session:P1D", timedelta(days=1)),
    ):
        start, end = sorted((instant(random), instant(random) + timedelta(hours=1)))
        cut = random.choice([None, 3])
        usage = await UsageStore(client).usage(query(subject, start, end, window=window, group_by=group_by, cut=cut))
        found = placed(events, subject, cut=cut)
        assert list(usage.rows) == session_usage(subject, measure(subject), found, start, end, gap, group_by)
        assert usage.total == measured(found, measure(subject), *milliseconds(start, end))


async def test_a_range_without_a_whole_minute_has_no_rolling_window(client: ClickhouseClient) -> None:
    start = START + timedelta(seconds=1)
    usage = await UsageStore(client).usage(
        query(METERS[0], start, start + timedelta(seconds=58), window="rolling:PT1H")
    )
    assert usage.rows == ()


async def test_levels_of_spans_are_weighed_over_the_whole_period(
    client: ClickhouseClient, events: list[TestEvent]
) -> None:
    """What is not billed, such as a pause, counts as 0; the level that was set in it goes on after it."""
    random = Random(SEED)
    ranges, expected = [], []
    for _ in range(30):
        subject = random.choice(LEVELS)
        edges = sorted({instant(random) for _ in range(random.choice([4, 6]))})
        start, end = edges[0] - timedelta(hours=random.randrange(3)), edges[-1] + timedelta(hours=random.randrange(3))
        spans = tuple(zip(edges[::2], edges[1::2], strict=False))
        ranges.append(
            UsageRange(
                meter_id=subject.id,
                generation=1,
                references=ACME,
                start=spans[0][0],
                end=spans[-1][1],
                spans=spans,
                carry=subject.carry,
                period=(start, end),
            )
        )
        found = [one for one in placed(events, subject) if subject.carry or one.time_ms >= milliseconds(start)[0]]
        whole = Measure(aggregation="weighted_sum")
        parts = [(measured(found, whole, *milliseconds(*span)), span[1] - span[0]) for span in spans]
        told = [Fraction(level) * (length // MILLISECOND) for level, length in parts if level is not None]
        expected.append(sum(told, Fraction(0)) / ((end - start) // MILLISECOND) if told else None)
    for read in (levels_of_many, recounted_levels_of_many):
        for state, level in zip(await read(client, [(SCOPE, one) for one in ranges], 100), expected, strict=True):
            if level is None:
                assert state.weighted is None
            else:
                # The parts that it is compared with were each rounded at their 12th digit.
                assert isinstance(state.weighted, Decimal)
                assert abs(Fraction(state.weighted) - level) <= Fraction(1, 10**12)


@pytest.mark.parametrize(
    ("subject", "change", "code"),
    [
        (LEVELS[0], {"references": None}, "customer_missing"),
        (METERS[0], {"references": None, "window": "session:PT1M"}, "customer_missing"),
        (LEVELS[0], {"window": "session:PT1M"}, "window_unsuited"),
        (LEVELS[1], {"window": "rolling:PT1M"}, "window_unsuited"),
        (METERS[0], {"window": "rolling:PT1S"}, "window_unknown"),
        (METERS[0], {"window": "rolling:P400D"}, "window_unknown"),
        (METERS[0], {"window": "rolling:1h"}, "window_unknown"),
        (METERS[0], {"window": "session:P99999999D"}, "window_unknown"),
        (METERS[0], {"window": "rolling:PT1H"}, "too_many_windows"),
        (METERS[0], {"group_by": ("colour",), "window": "session:PT1M"}, "dimension_unknown"),
        (LEVELS[0], {"group_by": ("colour",)}, "dimension_unknown"),
    ],
)
async def test_what_has_no_answer_is_refused(
    client: ClickhouseClient, subject: Meter, change: dict[str, Any], code: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await UsageStore(client).usage(query(subject, START, START + SPAN, **change))
    assert refused.value.code == code


async def test_levels_of_the_widest_values_are_exact(client: ClickhouseClient) -> None:
    widest = Decimal("99999999999999999999999999.999999999999")
    at = START - timedelta(days=10)
    made = [
        TestEvent(
            id=f"wide{number}",
            customer="wide",
            time=at + timedelta(milliseconds=number * 7),
            amount=amount,
            user="",
            region="",
            partition=1,
            offset=200_000,
            index=number,
            cut=1,
        )
        for number, amount in enumerate([widest, -widest, Decimal("0.000000000001"), widest])
    ]
    await insert_events(client, made, SystemClock().now() + timedelta(minutes=1))
    end = at + timedelta(days=1, milliseconds=3)
    usage = await UsageStore(client).usage(query(LEVELS[0], at, end, references=("wide",)))
    assert usage.total == measured(placed(made, LEVELS[0], ("wide",)), measure(LEVELS[0]), *milliseconds(at, end))


async def test_a_percentile_of_very_many_values_is_that_of_the_same_ones_always(client: ClickhouseClient) -> None:
    random, at = Random(SEED), START - timedelta(days=20)
    made = [
        TestEvent(
            id=f"many{number}",
            customer="many",
            time=at + timedelta(milliseconds=number),
            amount=Decimal(random.randrange(10**6)),
            user="",
            region="eu" if number % 3 else "us",
            partition=1,
            offset=300_000 + number // 5000,
            index=number % 5000,
            cut=1,
        )
        for number in range(SAMPLE + 2500)
    ]
    await insert_events(client, made, SystemClock().now() + timedelta(minutes=1))
    chosen = sorted(made, key=lambda one: event_identity(TENANT, ENVIRONMENT, "", one.id))[:SAMPLE]
    for percent in PERCENTS:
        subject = meter("percentile", percent=percent)
        asked = query(subject, at, at + timedelta(hours=1), references=("many",), group_by=("region",))
        usage = await UsageStore(client).usage(asked)
        assert usage.total == percentile([one.amount or Decimal(0) for one in chosen], percent)
        for row in usage.rows:
            held = [one.amount or Decimal(0) for one in made if one.region == row.dimensions["region"]]
            assert row.value == percentile(held, percent)
