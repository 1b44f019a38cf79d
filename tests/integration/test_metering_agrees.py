"""One definition of a meter: what a worker stores and tells, what is counted again, and what usage says are all the same."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, NamedTuple

import msgspec
import pytest
import pytest_asyncio

from domain.block_decoding import decode_block
from domain.blocks import Outcomes, judge_block
from domain.catalog import Catalog, CatalogLog
from domain.events import decode_properties
from domain.expressions import compile_reads
from domain.metering import MeterEvent, Placed, matches_of, measured, usage_of
from domain.meters import EVALUATOR
from domain.money import EXACT
from domain.records import LogRecord
from domain.windows import cut_windows
from runtime.clock import SystemClock
from schemas.catalog import CatalogChange, CatalogVersion
from schemas.measures import Measure
from schemas.meters import Aggregation, Meter
from schemas.scope import Scope
from schemas.usage import UsageQuery, UsageRange
from stores.clickhouse.aggregates import COLUMNS_OF, FROM_EVENTS_ALONE, columns_of, value_of
from stores.clickhouse.blocks import BlockConstants, encode_block, insert_block
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.issues import meter_issues
from stores.clickhouse.levels_many import levels_of_many, recounted_levels_of_many
from stores.clickhouse.usage import UsageStore
from stores.clickhouse.usage_many import recount_of_many, usage_of_many
from tests.support.clickhouse import migrated_database

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCOPE = Scope("acme", "live")
START = datetime(2026, 10, 23, tzinfo=UTC)
START_MS = int(START.timestamp()) * 1000
HOURS = 12
TOPIC = "topic-1"
EVENTS_A_BLOCK = 60
BLOCKS = 6
CUT = 10
EXPRESSIONS: dict[str, tuple[Aggregation, str]] = {
    "total": ("sum", "usage.in + 4 * usage.out / 3"),
    "average": ("avg", "(usage.in - usage.out) / 7"),
    "least": ("min", "-usage.in * 0.000000000001"),
    "most": ("max", "max(usage.in, coalesce(usage.out, 0))"),
    "newest": ("latest", "usage.out * 2"),
    "buckets": ("unique_count", "floor(usage.in / 100)"),
    "level": ("weighted_sum", "abs(usage.out - 50)"),
    "slow": ("percentile", "usage.in / 3"),
}
METERS = [
    Meter(
        id=f"met_{key}",
        key=key,
        event_types=("call",),
        aggregation=aggregation,
        value_expression=expression,
        dimensions=("region",),
        value_required=True,
        percent=90 if aggregation == "percentile" else None,
    )
    for key, (aggregation, expression) in EXPRESSIONS.items()
]


class Log(NamedTuple):
    """What was stored: each event once, with its customer; and what its blocks told."""

    events: list[tuple[str, MeterEvent]]
    outcomes: list[Outcomes]


def catalog() -> Catalog:
    log = CatalogLog()
    changes = [
        CatalogChange(kind="meter", tenant="acme", environment="live", key=one.id, body=msgspec.to_builtins(one))
        for one in METERS
    ]
    body = {"id": "cus_1", "references": ["c1", "c1-old"]}
    customer = CatalogChange(kind="customer", tenant="acme", environment="live", key="cus_1", body=body)
    log.append(CatalogVersion(version=1, changes=[*changes, customer]))
    return log.at(1)


def sent(random: Random, number: int) -> dict[str, Any]:
    """Some values are whole, some are not, and some cannot be used."""
    value = random.choice([random.randrange(10**6), str(random.randrange(10**4)), f"{random.randrange(9999)}.25"])
    out: Any = random.choice([7, "0.5", None, "many", random.randrange(200), [], "9" * 26])
    at = START + timedelta(milliseconds=random.randrange(HOURS * 3_600_000))
    return {
        "id": f"e{number}",
        "type": "call",
        "customer": random.choice(["c1", "c1-old", "other"]),
        "time": at.isoformat(timespec="milliseconds"),
        "properties": {"usage": {"in": value, "out": out}, "region": random.choice(["eu", "us", None])},
    }


def judged(random: Random) -> Log:
    """Blocks in which every event came once and every third one twice."""
    held, events, outcomes = catalog(), [], []
    for block in range(BLOCKS):
        bodies = [sent(random, block * EVENTS_A_BLOCK + number) for number in range(EVENTS_A_BLOCK)]
        bodies += bodies[::3]
        received_ms = START_MS + HOURS * 3_600_000
        record = LogRecord(
            offset=block,
            logged_at_ms=received_ms + block,
            value=msgspec.json.encode(bodies),
            received_at_ms=received_ms,
            tenant="acme",
            environment="live",
            version=0,
        )
        decoded = decode_block([record], 0, 1, held)
        found = judge_block(decoded, [None] * len(decoded.candidates))
        assert len(found.duplicates) == len(bodies) - EVENTS_A_BLOCK
        outcomes.append(found)
        rows = found.stored
        for place in range(len(rows)):
            position = (rows.logged_at_ms[place], 0, rows.offset[place], rows.index[place])
            properties = decode_properties(rows.properties[place])
            events.append((rows.customer[place], MeterEvent("call", rows.time_ms[place], position, properties)))
    return Log(events, outcomes)


@pytest.fixture(scope="module")
def log() -> Log:
    return judged(Random(20261123))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(clickhouse_url: str, log: Log) -> AsyncIterator[ClickhouseClient]:
    async with migrated_database(clickhouse_url, "metering_agrees") as client:
        for found in log.outcomes:
            constants = BlockConstants(
                topic_id=TOPIC,
                partition=0,
                first_offset=found.first_offset,
                last_offset=found.last_offset,
                version=1,
                evaluator=EVALUATOR,
                first_logged_at_ms=found.first_logged_at_ms,
            )
            await insert_block(
                client,
                encode_block(found.stored, constants),
                token=constants.token,
                cut=1 + found.first_offset,
                insert_before=SystemClock().now() + timedelta(seconds=30),
                deadline_s=30,
            )
        yield client


def known(log: Log, meter: Meter, customers: Sequence[str]) -> list[Placed]:
    return matches_of(meter, [event for customer, event in log.events if customer in customers]).matches


def measure(meter: Meter) -> Measure:
    return Measure(aggregation=meter.aggregation, percent=meter.percent or 50, carry=meter.carry)


async def test_usage_and_both_sides_of_a_closing_are_what_the_meter_says_of_the_events(
    client: ClickhouseClient, log: Log
) -> None:
    # Ragged at both ends.
    start, end = START + timedelta(minutes=61, milliseconds=7), START + timedelta(hours=HOURS, milliseconds=-12_345)
    customers = ("c1", "c1-old")
    for meter in METERS:
        matches = known(log, meter, customers)
        asked = UsageQuery(
            tenant="acme",
            environment="live",
            meter=meter,
            references=customers,
            start=start,
            end=end,
            window="hour",
            group_by=("region",),
        )
        usage = await UsageStore(client).usage(asked)
        assert usage == usage_of(meter, measure(meter), matches, cut_windows(start, end, "hour", "UTC"), ("region",))
        assert usage.rows, meter.key
        one = UsageRange(meter_id=meter.id, generation=1, references=customers, start=start, end=end)
        expected = measured(matches, measure(meter), *(int(at.timestamp() * 1000) for at in (start, end)))
        if meter.aggregation == "weighted_sum":
            sides = [await read(client, [(SCOPE, one)], CUT) for read in (levels_of_many, recounted_levels_of_many)]
        elif FROM_EVENTS_ALONE.isdisjoint(COLUMNS_OF[meter.aggregation]):
            columns = columns_of([meter.aggregation])
            sides = [await read(client, [(SCOPE, one)], CUT, columns) for read in (usage_of_many, recount_of_many)]
        else:
            continue  # never billed
        assert [value_of(side[0], meter.aggregation) for side in sides] == [expected] * 2


async def test_what_blocks_tell_of_adds_up_to_the_same(log: Log) -> None:
    """Changes go to balances; they are of customers that are known, by second."""
    totals: defaultdict[str, Decimal] = defaultdict(Decimal)
    counts: defaultdict[str, int] = defaultdict(int)
    for found in log.outcomes:
        for change in found.changes:
            assert change.customer_id == "cus_1"
            totals[change.meter_id] = EXACT.add(totals[change.meter_id], change.total)
            counts[change.meter_id] += change.matches
    for meter in METERS:
        matches = known(log, meter, ("c1", "c1-old"))
        total = Decimal(0)
        for placed in matches:
            total = EXACT.add(total, placed.match[1] or Decimal(0))
        assert (totals[meter.id], counts[meter.id]) == (total, len(matches)), meter.key


async def test_issues_are_stored_by_their_codes_and_never_matched(client: ClickhouseClient, log: Log) -> None:
    found = await client.rows(
        f"SELECT issue.meter, issue.code, count() FROM {client.reads('events')} ARRAY JOIN issues AS issue GROUP BY 1, 2"
    )
    expected: defaultdict[tuple[str, str], int] = defaultdict(int)
    for meter in METERS:
        for _, code in matches_of(meter, [event for _, event in log.events]).issues:
            expected[meter.id, code] += 1
    assert {(meter, code): count for meter, code, count in found} == expected
    assert {code for _, code in expected} == {"not_a_number", "value_missing", "quantity_out_of_range"}


async def test_an_issue_shows_all_that_the_expression_read(client: ClickhouseClient, log: Log) -> None:
    shown = await meter_issues(
        client,
        SCOPE,
        "met_total",
        compile_reads(EXPRESSIONS["total"][1]),
        start=START,
        end=START + timedelta(days=1),
        limit=500,
    )
    stored = {log.outcomes[0].stored.id[place]: log.outcomes[0].stored.properties[place] for place in range(20)}
    found = {one.id: one.value for one in shown.samples if one.id in stored}
    assert found
    for name, value in found.items():
        usage = decode_properties(stored[name])["usage"]
        assert value is not None
        assert decode_properties(value.encode()) == {"usage.in": usage["in"], "usage.out": usage["out"]}
