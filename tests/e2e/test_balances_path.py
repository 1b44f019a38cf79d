"""Deltas and contracts through a real balances worker into balances: exact, whatever was killed, told once."""

import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from api.entitlements_view import EntitlementsFold
from domain.errors import NotFound
from domain.identity import customer_partition
from runtime.settings import load_settings
from schemas.catalog import CatalogVersion
from schemas.contracts import CustomerContract, Entitlement, ThresholdCrossed
from schemas.entitlements import CheckAnswer
from schemas.events import UsageEvent
from schemas.meters import Meter
from schemas.topics import (
    BALANCES_CHANGELOG,
    CATALOG_CHANGED,
    CONTRACTS_CHANGED,
    ENTITLEMENTS_STATE,
    ENTITLEMENTS_THRESHOLDS,
    USAGE_RAW,
)
from stores.clickhouse.client import ClickhouseClient
from stores.kafka import Record as ViewRecord
from stores.postgres.engine import create_engine
from stores.postgres.ledger import Ledger
from stores.topics import recorded_ids
from tests.support.ingest import (
    ENVIRONMENT,
    NOW,
    PARTITIONS,
    TENANT,
    Stack,
    catalog,
    event,
    records_of,
)
from tests.support.pipeline import command, produce, read_topic, settings_of, worker
from tests.support.servers import running
from tests.support.waiting import eventually_async

METERS = [
    Meter(id="met_calls", key="calls", event_types=("call",), aggregation="count"),
    Meter(id="met_bytes", key="bytes", event_types=("call",), aggregation="sum", value_property="bytes"),
    Meter(id="met_users", key="users", event_types=("call",), aggregation="unique_count", value_property="user"),
]
BEGAN = (NOW - timedelta(days=20)).replace(microsecond=0)
FEATURES = {"met_calls": "count", "met_bytes": "sum", "met_users": "unique_count"}
LIMIT = Decimal(300)
Checks = dict[tuple[str, str], CheckAnswer]


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with running("kafka", "postgres", "clickhouse") as endpoints:
        found = settings_of(endpoints, tmp_path_factory.mktemp("balances"))
        command(found, "migrate")
        yield found


@pytest.fixture
async def stack(environ: dict[str, str]) -> AsyncIterator[Stack]:
    settings = load_settings(environ)
    engine = create_engine(settings.postgres)
    clickhouse = ClickhouseClient(settings.clickhouse)
    topic_id = (await recorded_ids(engine))[USAGE_RAW]
    yield Stack(settings, topic_id, Ledger(engine), clickhouse)
    await clickhouse.close()
    await engine.dispose()


def contract(customer: int, version: int, references: Sequence[str] = ()) -> CustomerContract:
    return CustomerContract(
        version=version,
        tenant=TENANT,
        environment=ENVIRONMENT,
        customer_id=f"cus_{customer}",
        references=[f"cus_{customer}", f"c{customer}", *references],
        entitlements=[
            Entitlement(
                feature_id=f"fea_{meter}",
                feature_key=meter,
                kind="metered",
                subscription_id=f"sub_{customer}",
                starts_at=BEGAN,
                meter_id=meter,
                aggregation=aggregation,
                limit=LIMIT,
                usage_period="never" if meter == "met_calls" else "month",
                anchor_at=BEGAN,
            )
            for meter, aggregation in FEATURES.items()
        ],
    )


async def contracts_sent(stack: Stack, contracts: Sequence[CustomerContract]) -> None:
    for one in contracts:
        name = f"{one.tenant}/{one.environment}/{one.customer_id}"
        partition = customer_partition(one.tenant, one.environment, one.customer_id, PARTITIONS)
        await produce(
            stack.bootstrap, CONTRACTS_CHANGED, [(partition, msgspec.json.encode(one), [])], key=name.encode()
        )


async def fold_of(stack: Stack) -> EntitlementsFold:
    fold = EntitlementsFold()
    for one in await read_topic(stack.bootstrap, ENTITLEMENTS_STATE, PARTITIONS):
        fold.apply(
            ViewRecord(
                partition=one.partition, offset=one.offset, timestamp_ms=one.timestamp, key=one.key, value=one.value
            )
        )
    return fold


def expected(events: Sequence[UsageEvent], customers: Sequence[int]) -> dict[tuple[str, str], Decimal]:
    found: dict[tuple[str, str], Decimal] = {}
    for customer in customers:
        own = [one for one in events if one.customer == f"c{customer}" and (one.time or NOW) >= BEGAN]
        values = [one.properties for one in own]
        found[f"c{customer}", "met_calls"] = Decimal(len(own))
        found[f"c{customer}", "met_bytes"] = sum((value["bytes"] for value in values), Decimal(0))
        found[f"c{customer}", "met_users"] = Decimal(len({value["user"] for value in values}))
    return found


async def agrees(stack: Stack, events: Sequence[UsageEvent], customers: Sequence[int]) -> bool:
    """Whether each check says what counting by hand says."""
    fold = await fold_of(stack)
    for (customer, feature), usage in expected(events, customers).items():
        try:
            held = fold.find(TENANT, ENVIRONMENT, customer)
        except NotFound as missing:
            raise AssertionError(customer) from missing
        as_of = fold.as_of(held)
        answer = held.standings.check(feature, Decimal(0), now=datetime.now(UTC), as_of=as_of, stale=False)  # noqa: TID251
        assert (customer, feature, answer.usage) == (customer, feature, usage)
        assert answer.allowed == (usage < LIMIT)
    return True


async def test_limits_flip_exactly_through_late_contracts_and_a_kill(
    environ: dict[str, str], stack: Stack, tmp_path: Path
) -> None:
    first = [event(number) for number in range(1500)]
    second = [event(number) for number in range(1500, 3500)]
    third = [event(number) for number in range(3500, 4200)]
    fourth = [event(number) for number in range(4200, 5000)]
    await produce(stack.bootstrap, CATALOG_CHANGED, [(0, catalog(1, METERS), [])], key=b"1")
    await contracts_sent(stack, [contract(0, 1), contract(1, 1)])

    log = tmp_path / "balances.log"
    with worker(environ, "ingest", tmp_path / "ingest.log"):
        with worker(environ, "balances", log) as doomed:
            await produce(stack.bootstrap, USAGE_RAW, records_of(first, 1, seed=1))
            await eventually_async(lambda: agrees(stack, first, [0, 1]), 40, every_s=0.5)
            # Their usage was there before them.
            await contracts_sent(stack, [contract(2, 1)])
            await produce(stack.bootstrap, USAGE_RAW, records_of(second, 1, seed=2))
            await eventually_async(lambda: _goes_on(stack, first), 30)
            doomed.kill()
        newer = CatalogVersion(version=2, changes=[])
        await produce(stack.bootstrap, CATALOG_CHANGED, [(0, msgspec.json.encode(newer), [])], key=b"2")
        await contracts_sent(stack, [contract(3, 2)])
        with worker(environ, "balances", log) as successor:
            await produce(stack.bootstrap, USAGE_RAW, records_of(third, 1, seed=3))
            await eventually_async(lambda: agrees(stack, [*first, *second, *third], [0, 1, 2, 3]), 60, every_s=0.5)
            assert successor.stop() == 0
        # The first one, stopped in the middle, writes what it had to the changelog; and the successor's disk is lost.
        await _write_late(stack)
        shutil.rmtree(environ["METERSTREAM_WORKER_DATA_DIR"] + "/faust")
        with worker(environ, "balances", log):
            # c5 was nobody's: now it is an alias of customer 0.
            await contracts_sent(stack, [contract(0, 2, ["c5"])])
            await produce(stack.bootstrap, USAGE_RAW, records_of(fourth, 1, seed=4))
            sent = [
                msgspec.structs.replace(one, customer="c0") if one.customer == "c5" else one
                for one in [*first, *second, *third, *fourth]
            ]
            await eventually_async(lambda: agrees(stack, sent, [0, 1, 2, 3]), 40, every_s=0.5)
    await _check_thresholds(stack, sent)


async def _goes_on(stack: Stack, counted: Sequence[UsageEvent]) -> bool:
    """Whether the balances hold more than `counted`."""
    fold = await fold_of(stack)
    counters = fold.find(TENANT, ENVIRONMENT, "c0").standings.state.counters
    former = expected(counted, [0])["c0", "met_calls"]
    return any(one.meter_id == "met_calls" and (one.value or 0) > former for one in counters)


async def _write_late(stack: Stack) -> None:
    """The first record of every key again, at the end of the changelog (protocol 9)."""
    earliest: dict[bytes, Any] = {}
    for record in await read_topic(stack.bootstrap, BALANCES_CHANGELOG, PARTITIONS):
        earliest.setdefault(record.key, record)
    assert len(earliest) > PARTITIONS
    for key, record in earliest.items():
        await produce(stack.bootstrap, BALANCES_CHANGELOG, [(record.partition, record.value, [])], key=key)


async def _check_thresholds(stack: Stack, events: Sequence[UsageEvent]) -> None:
    """Every percent that usage has reached, and each of them under one key."""
    decoder = msgspec.json.Decoder(ThresholdCrossed)
    records = await read_topic(stack.bootstrap, ENTITLEMENTS_THRESHOLDS, PARTITIONS)
    told = {record.key: decoder.decode(record.value) for record in records}
    found = Counter((one.customer_id, one.feature_key, one.threshold_percent) for one in told.values())
    usage = expected(events, [0, 1, 2, 3])
    reached = {
        (f"cus_{customer[1:]}", feature, percent)
        for (customer, feature), value in usage.items()
        for percent in (50, 80, 100)
        if value >= LIMIT * percent / 100
    }
    assert found == Counter(reached)
