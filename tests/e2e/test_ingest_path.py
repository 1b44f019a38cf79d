"""usage.raw through a real worker into `events`, windows, ledger and deltas: exact, whatever was sent and killed."""

import shutil
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka.admin import AdminClient

from domain.aggregates import fold
from domain.catalog import CatalogLog
from domain.identity import partition_of
from domain.meters import compile_meters
from schemas.events import RejectedRecord, UsageEvent
from schemas.meters import Meter
from schemas.topics import APP_INGEST, CATALOG_CHANGED, USAGE_RAW, USAGE_REJECTED
from stores.clickhouse.blocks import insert_block
from tests.support.begun import begin_block
from tests.support.ingest import (
    ENVIRONMENT,
    NOW,
    PARTITIONS,
    TENANT,
    Stack,
    array,
    catalog,
    catalog_version,
    connected,
    deltas_of,
    event,
    headers,
    home,
    identity,
    records_of,
)
from tests.support.pipeline import Record, command, produce, read_topic, settings_of, worker
from tests.support.servers import running
from tests.support.waiting import eventually_async

METERS = [
    Meter(id="met_calls", key="calls", event_types=("call",), aggregation="count", dimensions=("region",)),
    Meter(id="met_bytes", key="bytes", event_types=("call",), aggregation="sum", value_property="bytes"),
    Meter(id="met_users", key="users", event_types=("call",), aggregation="unique_count", value_property="user"),
]
LATER_METER = Meter(id="met_jobs", key="jobs", event_types=("job",), aggregation="max", value_property="seconds")


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with running("kafka", "postgres", "clickhouse") as endpoints:
        found = settings_of(endpoints, tmp_path_factory.mktemp("ingest"))
        command(found, "migrate")
        yield found


@pytest.fixture
async def stack(environ: dict[str, str]) -> AsyncIterator[Stack]:
    async with connected(environ) as found:
        yield found


# One record each: what comes of it, and which codes its events get.
BARE = {"id": "bare", "type": "call", "customer": "c1", "tenant": TENANT, "environment": ENVIRONMENT}
BAD: list[tuple[bytes, bool, list[str]]] = [
    (b"not json", True, ["malformed_json"]),
    (b'[{"id":"x","type":"call"}]', True, ["field_missing"]),
    (b'[{"id":"old","type":"call","customer":"c1","time":"2001-01-01T00:00:00Z"}]', True, ["event_too_old"]),
    (b'{"id":"y","type":"call","customer":"c1"}', False, ["tenant_missing"]),
    (b"[" + b" " * (1 << 20) + b"]", True, ["record_too_large"]),
]


async def test_every_event_counts_once_through_copies_strays_garbage_and_a_kill(
    environ: dict[str, str], stack: Stack, tmp_path: Path
) -> None:
    calls = [event(number) for number in range(6000)]
    jobs = [event(number, "job") for number in range(6000, 7500)]
    strays = [event(number) for number in range(7500, 7600)]
    first, second = records_of(calls, 1, seed=1), records_of(jobs, 2, seed=2)
    misplaced: list[Record] = [(0, array(strays), headers(1))]
    bare = UsageEvent(id="bare", type="call", customer="c1")
    foreign: list[Record] = [(home(bare), msgspec.json.encode(BARE), [])]
    bad: list[Record] = [(1, value, headers(1) if trusted else []) for value, trusted, _ in BAD]
    await produce(stack.bootstrap, CATALOG_CHANGED, [(0, catalog(1, METERS), [])], key=b"1")
    await produce(stack.bootstrap, USAGE_RAW, [*first, *misplaced, *bad, *foreign])

    with worker(environ, "ingest", tmp_path / "worker.log") as doomed:
        await eventually_async(lambda: _some(stack), 60)
        doomed.kill()
    await produce(stack.bootstrap, USAGE_RAW, second)  # they need a catalog version that has not come yet
    with worker(environ, "ingest", tmp_path / "worker.log") as successor:
        await produce(stack.bootstrap, CATALOG_CHANGED, [(0, catalog(2, [LATER_METER]), [])], key=b"2")
        await eventually_async(stack.is_done, 90)
        await eventually_async(lambda: _idle(stack), 20)
        assert successor.stop() == 0

    sent = [*calls, *jobs, *strays, bare]
    await _check_events(stack, sent)
    await _check_ledger(stack)
    await _check_windows(stack, sent)
    await _check_deltas(stack, sent)
    await _check_rejected(stack)


async def _some(stack: Stack) -> bool:
    return await stack.count("events") > 0


async def _idle(stack: Stack) -> bool:
    """Every partition has taken the newest version over, and says that it is at the end of the log."""
    progress = await stack.ledger.progress(stack.topic_id)
    return all(one.version == 2 and one.idle_as_of is not None for one in progress)


async def _check_events(stack: Stack, sent: list[UsageEvent]) -> None:
    rows = await stack.rows("SELECT identity, customer, customer_id, partition, topic_id FROM events")
    assert Counter(row[0] for row in rows) == Counter(identity(one) for one in sent)
    for row in rows:
        known = row[1] not in {"c5", "c6"}
        assert row[2] == (f"cus_{row[1][1:]}" if known else "")
        assert row[3] == partition_of(row[0], PARTITIONS)


async def _check_ledger(stack: Stack) -> None:
    """Read = stored + duplicate + rejected + forwarded, and each of them is rows somewhere."""
    log = await read_topic(stack.bootstrap, USAGE_RAW, PARTITIONS)
    garbage = {value for value, _, codes in BAD if codes[0] in {"malformed_json", "record_too_large"}}
    read = sum(
        1 if one.value in garbage or one.value[:1] != b"[" else len(msgspec.json.decode(one.value)) for one in log
    )
    blocks = [
        block.intent
        for number in range(PARTITIONS)
        for block in await stack.ledger.done_blocks_above(stack.topic_id, number, -1)
    ]
    stored, duplicate = sum(block.stored for block in blocks), sum(block.duplicate for block in blocks)
    rejected, forwarded = sum(block.rejected for block in blocks), sum(block.forwarded for block in blocks)
    assert read == stored + duplicate + rejected + forwarded
    assert stored == await stack.count("events")
    assert duplicate == await stack.count("event_duplicates FINAL") == 7500 + 0
    assert rejected == await stack.count("events_rejected FINAL") == len(BAD)
    assert forwarded == sum(home(event(number)) != 0 for number in range(7500, 7600))


async def _check_windows(stack: Stack, sent: list[UsageEvent]) -> None:
    compiled = compile_meters(sorted([*METERS, LATER_METER], key=lambda meter: meter.id))
    truth: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
    for one in sent:
        time = one.time or NOW
        for match in compiled.evaluate(one.type, one.properties)[0]:
            key = (compiled.meters[match[0]].id, one.customer)
            truth[key].append((match, int(time.timestamp() * 1000), (0, 0, 0, 0)))
    states = {key: fold(matches) for key, matches in truth.items()}
    rows = await stack.rows(
        "SELECT meter, customer, sum(matches), sum(values), sum(total), max(highest), uniqExactMerge(uniques)"
        " FROM usage_windows GROUP BY meter, customer"
    )
    found = {(row[0], row[1]): tuple(row[2:]) for row in rows}
    expected = {
        key: (state.matches, state.values, state.total, state.highest, len(state.unique))
        for key, state in states.items()
    }
    assert found == expected


async def _check_deltas(stack: Stack, sent: list[UsageEvent]) -> None:
    """Their sum is the usage of known customers."""
    totals: defaultdict[tuple[str, str], Any] = defaultdict(lambda: (0, Decimal(0)))
    for deltas in await deltas_of(stack):
        for change in deltas.changes:
            matches, total = totals[change.meter_id, change.customer_id]
            totals[change.meter_id, change.customer_id] = (matches + change.matches, total + change.total)
    compiled = compile_meters(sorted([*METERS, LATER_METER], key=lambda meter: meter.id))
    expected: defaultdict[tuple[str, str], Any] = defaultdict(lambda: (0, Decimal(0)))
    for one in sent:
        if one.customer in {"c5", "c6"}:
            continue
        for number, value, _, _ in compiled.evaluate(one.type, one.properties)[0]:
            key_ = (compiled.meters[number].id, f"cus_{one.customer[1:]}")
            matches, total = expected[key_]
            expected[key_] = (matches + 1, total + (value or 0))
    assert dict(totals) == dict(expected)


async def _check_rejected(stack: Stack) -> None:
    decoder = msgspec.json.Decoder(RejectedRecord)
    records = [decoder.decode(one.value) for one in await read_topic(stack.bootstrap, USAGE_REJECTED, PARTITIONS)]
    by_position = {one.position: one for one in records}
    assert sorted(one.code for one in by_position.values()) == sorted(code for _, _, codes in BAD for code in codes)
    rows = await stack.rows("SELECT code, original FROM events_rejected FINAL ORDER BY code")
    assert [row[0] for row in rows] == sorted(code for _, _, codes in BAD for code in codes)
    malformed = next(one for one in by_position.values() if one.code == "malformed_json")
    assert malformed.original == b"not json"


async def test_a_worker_that_lost_its_disk_still_knows_every_copy(
    environ: dict[str, str], stack: Stack, tmp_path: Path
) -> None:
    """The filter is rebuilt from `events`, by ledger row (protocol 11)."""
    stored, duplicates = await stack.count("events"), await stack.count("event_duplicates FINAL")
    shutil.rmtree(environ["METERSTREAM_WORKER_DATA_DIR"])
    copies = records_of([event(number) for number in range(6000)], 1, seed=3)
    await produce(stack.bootstrap, USAGE_RAW, copies)
    with worker(environ, "ingest", tmp_path / "worker.log") as running_:
        await eventually_async(stack.is_done, 60)
        assert running_.stop() == 0
    assert await stack.count("events") == stored
    assert await stack.count("event_duplicates FINAL") == duplicates + 12_000


async def test_a_successor_finishes_what_was_begun_wherever_it_was_left(
    environ: dict[str, str], stack: Stack, tmp_path: Path
) -> None:
    """One block a partition: after the intent, after the insert, after done; each counts once, its deltas too."""
    fresh = [event(number) for number in range(20_000, 20_400)]
    before = await stack.rows("SELECT sum(matches) FROM usage_windows WHERE meter = 'met_calls'")
    await produce(
        stack.bootstrap,
        USAGE_RAW,
        [(number, array([one for one in fresh if home(one) == number]), headers(2)) for number in range(PARTITIONS)],
    )
    for number, steps in enumerate(("intent", "insert", "done")):
        await _begin(stack, number, steps, tmp_path / f"filter-{number}")
    with worker(environ, "ingest", tmp_path / "worker.log") as running_:
        await eventually_async(stack.is_done, 60)
        assert running_.stop() == 0
    rows = await stack.rows(
        "SELECT count(), uniq(identity) FROM events WHERE toUInt64OrZero(substring(id, 2)) >= 20000"
    )
    assert tuple(rows[0]) == (400, 400)
    after = await stack.rows("SELECT sum(matches) FROM usage_windows WHERE meter = 'met_calls'")
    assert after[0][0] - before[0][0] == 400
    newest = {deltas.partition: deltas for deltas in await deltas_of(stack) if any(deltas.changes)}
    known = sum(one.customer not in {"c5", "c6"} for one in fresh)
    changes = [one for deltas in await deltas_of(stack) for one in deltas.changes if one.meter_id == "met_calls"]
    seconds = {int((one.time or NOW).timestamp()) for one in fresh}
    assert sum(one.matches for one in changes if one.second in seconds) == known
    assert set(newest) == set(range(PARTITIONS))


async def test_a_group_that_kafka_has_forgotten_goes_on_where_the_ledger_stands(
    environ: dict[str, str], stack: Stack, tmp_path: Path
) -> None:
    """Its generations begin anew, below the ledger's (protocol 19); the log is not read again (protocol 18)."""
    admin = AdminClient({"bootstrap.servers": stack.bootstrap})
    for future in admin.delete_consumer_groups([APP_INGEST]).values():
        future.result(20)
    stored, generation = await stack.count("events"), await _generation(stack)
    fresh = [event(number) for number in range(30_000, 30_100)]
    await produce(stack.bootstrap, USAGE_RAW, records_of(fresh, 2, seed=4))
    for _ in range(2):
        with worker(environ, "ingest", tmp_path / "worker.log") as running_:
            await eventually_async(running_.is_ready, 30)
            await eventually_async(stack.is_done, 60)
            assert running_.stop() == 0
    assert await stack.count("events") == stored + 100
    assert await _generation(stack) == generation


async def test_offsets_that_the_log_does_not_have_are_rows_of_the_ledger(
    environ: dict[str, str], stack: Stack, tmp_path: Path
) -> None:
    """A transaction leaves a marker behind its records: a gap in the middle of the log, and one at its end."""
    stored = await stack.count("events")
    fresh = [event(number) for number in range(40_000, 40_040)]
    producer = AIOKafkaProducer(bootstrap_servers=stack.bootstrap, transactional_id="foreign")
    await producer.start()
    for half in (fresh[:20], fresh[20:]):
        async with producer.transaction():
            for one in half:
                await producer.send_and_wait(USAGE_RAW, array([one]), None, home(one), headers=headers(2))
    await producer.stop()
    with worker(environ, "ingest", tmp_path / "worker.log") as running_:
        await eventually_async(stack.is_done, 60)
        assert running_.stop() == 0
    assert await stack.count("events") == stored + 40
    blocks = [await stack.ledger.done_blocks_above(stack.topic_id, number, -1) for number in range(PARTITIONS)]
    assert sum(block.state == "gap" for own in blocks for block in own) == 2 * len({home(one) for one in fresh})


async def _begin(stack: Stack, number: int, steps: str, directory: Path) -> None:
    """What a worker that died had done of the next block of a partition, by the same parts."""
    log = CatalogLog()
    log.append(catalog_version(1, METERS))
    log.append(catalog_version(2, [LATER_METER]))
    prepared, opened = await begin_block(stack, number, await _generation(stack), log.at(2), directory)
    if steps == "intent":
        return
    await insert_block(
        stack.clickhouse,
        prepared.batch,
        token=prepared.token,
        cut=opened.cut,
        insert_before=opened.insert_before,
        deadline_s=30,
    )
    if steps == "done":
        await stack.ledger.finish(opened.epoch, opened)


async def _generation(stack: Stack) -> int:
    return max(one.generation for one in await stack.ledger.progress(stack.topic_id))
