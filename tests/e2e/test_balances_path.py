"""Deltas and contracts through a real balances worker into balances: exact, whatever was killed, told once."""

import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.catalog import CatalogVersion
from schemas.contracts import ThresholdCrossed
from schemas.events import UsageEvent
from schemas.topics import BALANCES_CHANGELOG, CATALOG_CHANGED, ENTITLEMENTS_THRESHOLDS, USAGE_RAW
from tests.support.balances import LIMIT, METERS, agrees, contract, contracts_sent, expected, fold_of
from tests.support.ingest import ENVIRONMENT, PARTITIONS, TENANT, Stack, catalog, connected, event, records_of
from tests.support.pipeline import Worker, command, produce, read_topic, settings_of, worker
from tests.support.servers import running
from tests.support.waiting import eventually_async

# Of four customers: the count of all time, and the other two of this month and the next.
COUNTERS = 4 * 5


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with running("kafka", "postgres", "clickhouse") as endpoints:
        found = settings_of(
            endpoints, tmp_path_factory.mktemp("balances"), METERSTREAM_BALANCES_RECONCILE_INTERVAL_S="0.2"
        )
        command(found, "migrate")
        yield found


@pytest.fixture
async def stack(environ: dict[str, str]) -> AsyncIterator[Stack]:
    async with connected(environ) as stack:
        yield stack


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
        await _plant_difference(stack)
        with worker(environ, "balances", log) as healing:
            await eventually_async(lambda: b"differs from the usage" in log.read_bytes(), 40)
            await eventually_async(lambda: agrees(stack, sent, [0, 1, 2, 3]), 20, every_s=0.5)
            await _is_reconciled(healing)
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


async def _plant_difference(stack: Stack) -> None:
    """A customer's newest record of the changelog with another count, as the newest one of all."""
    newest: dict[bytes, Any] = {}
    for record in await read_topic(stack.bootstrap, BALANCES_CHANGELOG, PARTITIONS):
        value = msgspec.json.decode(record.value)
        if not newest.get(record.key) or value["version"] >= newest[record.key][1]["version"]:
            newest[record.key] = record.partition, value
    key = f"{TENANT}/{ENVIRONMENT}/cus_1".encode()
    partition, value = newest[key]
    value["version"][1] += 1_000_000
    counter = next(one for one in value["counters"] if one["aggregation"] == "count")
    counter["matches"] += 1
    await produce(stack.bootstrap, BALANCES_CHANGELOG, [(partition, msgspec.json.encode(value), [])], key=key)


async def _is_reconciled(running: Worker) -> None:
    """Every counter was compared since, and none differs."""
    before = running.metric("meterstream_balances_compared_total")

    async def compared() -> bool:
        assert running.metric("meterstream_balances_compared_total") > before + COUNTERS
        return running.metric("meterstream_balances_difference") == 0

    await eventually_async(compared, 30)


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
