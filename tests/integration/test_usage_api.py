"""`/v1/usage`, its stream, statistics, events and the reconciliation, on a real ledger and real tables."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest_asyncio
from msgspec.structs import replace
from sqlalchemy import text

from api.app import Api, create_app
from api.auth import Authenticator
from api.deps import ApiDeps
from api.limits_view import LimitsView
from domain.aggregates import value
from domain.identity import event_identity
from domain.quantities import format_quantity
from domain.reconciliation import OUTCOMES, hour_differences
from runtime.clock import SystemClock
from runtime.ids import Ids
from runtime.settings import ClosingSettings, Settings
from schemas.blocks import DuplicateEvent, RefusedEvent
from schemas.customers import Customer
from schemas.ledger import Intent, TenantCount
from schemas.scope import Scope
from schemas.topics import USAGE_RAW
from stores.clickhouse.block_outcomes import insert_duplicates, insert_refused
from stores.clickhouse.reconcile import meter_days, rows_by_partition_and_hour
from stores.kafka import Producer
from stores.postgres.customers import create_customer
from stores.postgres.cuts import Cuts
from stores.postgres.engine import create_engine, transaction
from stores.postgres.keys import ApiKeys
from stores.postgres.ledger import Ledger
from stores.postgres.meters import create_meter
from stores.postgres.progress import ProgressReader
from tests.support.asgi import request
from tests.support.clickhouse import migrated_database
from tests.support.database import database
from tests.support.usage_events import (
    ENVIRONMENT,
    LOGGED_MS,
    METERS,
    TENANT,
    TOPIC,
    TestEvent,
    folded,
    insert_events,
    matches_of,
    random_events,
)

START = datetime(2026, 3, 27, tzinfo=UTC)
SPAN = timedelta(days=4)
LOGGED_AT = datetime.fromtimestamp(LOGGED_MS / 1000, UTC)
HOUR = LOGGED_MS // 3_600_000
SCOPE = Scope(TENANT, ENVIRONMENT)
RANGE = "from=2026-03-27T00:00:00Z&to=2026-03-31T00:00:00Z"


class System:
    """The application with a key, and a worker's part of the ledger."""

    def __init__(self, app: Api, deps: ApiDeps, headers: dict[str, str]) -> None:
        self.app = app
        self.deps = deps
        self.headers = headers
        self.events: list[TestEvent] = []
        self._epochs: dict[int, int] = {}

    async def store(self, events: Sequence[TestEvent]) -> None:
        """Whole blocks, as the worker does: intent, insert, done."""
        ledger = Ledger(self.deps.engine)
        assert self.deps.clickhouse is not None
        blocks: dict[tuple[int, int], list[TestEvent]] = {}
        for event in events:
            blocks.setdefault((event.offset, event.partition), []).append(event)
        for (offset, partition), block in sorted(blocks.items()):
            if partition not in self._epochs:
                self._epochs[partition] = (await ledger.take_over(TOPIC, partition, 1)).epoch
            epoch = self._epochs[partition]
            opened = await ledger.write_intent(epoch, intent_of(offset, partition, len(block)), 30)
            stamped = [replace(event, cut=opened.cut) for event in block]
            await insert_events(self.deps.clickhouse, stamped, opened.insert_before)
            await ledger.finish(epoch, opened)
        self.events += events

    async def raise_cut(self) -> int:
        async with request(self.app, "POST", "/v1/cuts", self.headers) as answer:
            body = await answer.json()
            assert (answer.status, body["raised"], body["complete"]) == (200, True, True), body
            return int(body["cut"])

    async def get(self, url: str, **headers: str) -> tuple[int, Any]:
        async with request(self.app, "GET", url, {**self.headers, **headers}) as answer:
            body = await answer.body() if headers.get("accept") == "text/csv" else await answer.json()
            return answer.status, body


def intent_of(offset: int, partition: int, stored: int) -> Intent:
    at = LOGGED_AT + timedelta(milliseconds=offset)
    count = TenantCount(
        tenant=TENANT, environment=ENVIRONMENT, hour=HOUR, stored=stored, duplicate=0, rejected=0, forwarded=0
    )
    return Intent(
        topic_id=TOPIC,
        partition=partition,
        first_offset=offset,
        last_offset=offset,
        shard=0,
        version=1,
        evaluator=1,
        stored=stored,
        duplicate=0,
        rejected=0,
        forwarded=0,
        counts=[count],
        row_hash=b"",
        max_event_at=None,
        first_logged_at=at,
        last_logged_at=at,
    )


@pytest_asyncio.fixture
async def system(postgres_url: str, clickhouse_url: str) -> AsyncIterator[System]:
    with database(postgres_url, "test_usage_api") as postgres:
        async with migrated_database(clickhouse_url, "usage_api") as clickhouse:
            engine, clock = create_engine(postgres), SystemClock()
            ids = Ids(clock)
            keys = ApiKeys(engine, clock, ids)
            settings = Settings(postgres=postgres, closing=ClosingSettings(cut_min_interval_s=0))
            _, secret = await keys.create(TENANT, ENVIRONMENT, ["usage:read"])
            deps = ApiDeps(
                settings=settings,
                clock=clock,
                ids=ids,
                engine=engine,
                producer=Producer(settings.kafka),
                auth=Authenticator(keys, 2.0, asyncio.get_running_loop().time),
                limits=LimitsView(settings.kafka),
                stopping=asyncio.Event(),
                clickhouse=clickhouse,
            )
            async with transaction(engine) as conn:
                await conn.execute(
                    text("INSERT INTO log_topics (name, topic_id, partitions) VALUES (:name, :topic, 2)"),
                    {"name": USAGE_RAW, "topic": TOPIC},
                )
                for partition in range(2):
                    await conn.execute(
                        text("INSERT INTO ledger_partitions (topic_id, partition) VALUES (:topic, :partition)"),
                        {"topic": TOPIC, "partition": partition},
                    )
                for meter in METERS:
                    await create_meter(conn, SCOPE, meter, clock.now())
                acme = Customer(
                    id="cus_1",
                    external_id="acme",
                    name="Acme",
                    aliases=("acme-old",),
                    timezone="UTC",
                    currency=None,
                    attributes={},
                    revision=1,
                    created_at=clock.now(),
                    archived_at=None,
                )
                await create_customer(conn, SCOPE, acme)
            yield System(create_app(deps), deps, {"authorization": f"Bearer {secret.reveal()}"})
            await engine.dispose()


def some_events(count: int = 300, seed: int = 7) -> list[TestEvent]:
    return random_events(Random(seed), count, START, SPAN, ("acme", "acme-old", "globex"))


def moved(events: Sequence[TestEvent], block: int) -> list[TestEvent]:
    """The same events as other ones, at later positions."""
    return [
        TestEvent(
            id=f"{event.id}-{block}",
            customer=event.customer,
            time=event.time,
            amount=event.amount,
            user=event.user,
            region=event.region,
            partition=event.partition,
            offset=event.offset + block,
            index=event.index,
            cut=event.cut + block,
        )
        for event in events
    ]


async def test_usage_by_window_group_and_total_as_json_and_csv(system: System) -> None:
    await system.store(some_events())
    for meter in METERS:
        status, body = await system.get(
            f"/v1/usage?meter={meter.key}&customer=acme&{RANGE}&window=day&timezone=Europe/Berlin"
        )
        assert status == 200, body
        state = folded(system.events, meter, START, START + SPAN, ("acme", "acme-old"))
        total = value(state, meter.aggregation)
        assert body["total"] == (None if total is None else format_quantity(total))
        assert [item["window_start"] for item in body["items"]][:3] == [
            "2026-03-27T00:00:00Z",
            "2026-03-27T23:00:00Z",
            "2026-03-28T23:00:00Z",
        ]
        assert body["items"][3]["window_start"] == "2026-03-29T22:00:00Z"  # summer time began
        assert body["as_of"] == "2026-09-21T14:13:20.002000Z"
    status, grouped = await system.get(f"/v1/usage?meter=count&{RANGE}&group_by=region")
    assert {item["dimensions"]["region"] for item in grouped["items"]} == {None, "eu", "us"}
    assert sum(int(item["value"]) for item in grouped["items"]) == len(system.events)
    status, csv = await system.get(f"/v1/usage?meter=met_count&{RANGE}&window=month&group_by=region", accept="text/csv")
    assert status == 200
    assert csv.decode().splitlines()[0] == "window_start,window_end,value,region"
    assert len(csv.decode().splitlines()) == 4


async def test_what_cannot_be_answered_has_a_code(system: System) -> None:
    wanted = {
        f"meter=nothing&{RANGE}": (404, "meter_not_found"),
        f"meter=count&customer=nobody&{RANGE}": (404, "customer_not_found"),
        f"meter=count&{RANGE}&window=fortnight": (422, "window_unknown"),
        f"meter=count&{RANGE}&window=day&timezone=Mars/Olympus": (422, "unknown_timezone"),
        f"meter=count&{RANGE}&group_by=colour": (422, "dimension_unknown"),
        "meter=count&from=2026-03-27&to=2026-03-28T00:00:00Z": (422, "invalid_instant"),
        "meter=count&from=2026-03-28T00:00:00Z&to=2026-03-27T00:00:00Z": (422, "range_empty"),
        "meter=count&from=1990-03-28T00:00:00Z&to=2026-03-27T00:00:00Z&window=minute": (422, "too_many_windows"),
        RANGE: (422, "invalid_request"),
    }
    for query, expected in wanted.items():
        status, body = await system.get(f"/v1/usage?{query}")
        assert (status, body["code"]) == expected, (query, body)
        status, body = await system.get(f"/v1/usage/stream?{query}")
        assert (status, body["code"]) == expected, (query, body)
    assert (await system.get("/v1/usage?meter=count", authorization="Bearer nothing"))[0] == 401


async def test_a_stream_begins_with_a_snapshot_and_tells_changes_at_once(system: System) -> None:
    await system.store(some_events())
    url = f"/v1/usage/stream?meter=sum&customer=acme&{RANGE}&window=hour"
    async with request(system.app, "GET", url, system.headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        snapshot, first_id = await answer.event("snapshot", 5)
        _, plain = await system.get(url.replace("/stream", ""))
        assert snapshot == plain
        await answer.event("heartbeat", 5)
        more = moved(some_events(50, seed=8), 3)
        await system.store(more)
        done_at = asyncio.get_running_loop().time()
        change, change_id = await answer.event("change", 5)
        took = asyncio.get_running_loop().time() - done_at
        assert took < 1.0
        _, now = await system.get(url.replace("/stream", ""))
        assert change["total"] == now["total"]
        assert change_id != first_id
        values = {item["window_start"]: item["value"] for item in snapshot["items"]}
        expected = [item for item in now["items"] if values[item["window_start"]] != item["value"]]
        assert change["items"] == expected
        assert expected
    async with request(system.app, "GET", url, {**system.headers, "last-event-id": change_id}) as again:
        snapshot, _ = await again.event("snapshot", 5)
        assert snapshot["items"] == now["items"]


async def test_a_stream_ends_when_the_process_stops(system: System) -> None:
    await system.store(some_events(50))
    url = f"/v1/usage/stream?meter=count&{RANGE}"
    async with request(system.app, "GET", url, system.headers) as answer:
        await answer.event("snapshot", 5)
        system.deps.stopping.set()
        await asyncio.wait_for(answer.body(), 5)


async def test_statistics_count_what_the_ledger_counted(system: System) -> None:
    await system.store(some_events(100))
    async with request(system.app, "GET", "/v1/stats/stream", system.headers) as answer:
        stats, _ = await answer.event("stats", 5)
        assert (stats["accepted"], stats["stored"], stats["duplicate"], stats["rejected"]) == (100, 100, 0, 0)
        assert [one["last_offset"] for one in stats["partitions"]] == [0, 0]
        assert [one["lag"] for one in stats["partitions"]] == [None, None]
        await system.store(moved(some_events(100, seed=9), 1))
        stats, _ = await answer.event("stats", 5)
        while stats["accepted"] < 200:
            stats, _ = await answer.event("stats", 5)
        assert stats["stored"] == 200
        assert stats["events_per_second"] > 0


async def test_events_are_listed_newest_first_and_page_by_page(system: System) -> None:
    await system.store(some_events(120))
    found: list[str] = []
    url = f"/v1/events?customer=acme&{RANGE}&limit=13"
    cursor = None
    while True:
        status, body = await system.get(url if cursor is None else f"{url}&cursor={cursor}")
        assert status == 200, body
        found += [item["id"] for item in body["items"]]
        cursor = body["next_cursor"]
        if cursor is None:
            break
    of_acme = [event for event in system.events if event.customer in ("acme", "acme-old")]
    newest = sorted(of_acme, key=lambda event: (event.time, event.partition, event.offset, event.index), reverse=True)
    assert found == [event.id for event in newest]
    status, body = await system.get("/v1/events?id=e7")
    assert [item["id"] for item in body["items"]] == ["e7"]
    assert (await system.get("/v1/events?cursor=???"))[1]["code"] == "cursor_invalid"


async def test_a_look_up_says_what_became_of_an_event(system: System) -> None:
    await system.store(some_events(50))
    assert system.deps.clickhouse is not None
    copy = DuplicateEvent(
        tenant=TENANT,
        environment=ENVIRONMENT,
        source="",
        id="e3",
        identity=event_identity(TENANT, ENVIRONMENT, "", "e3"),
        received_at_ms=LOGGED_MS,
        logged_at_ms=LOGGED_MS,
        offset=9,
        index=1,
        first_offset=0,
        first_index=3,
        type="call",
        customer="somebody else",
        time_ms=None,
        properties=b"{}",
    )
    refused = RefusedEvent(
        tenant=TENANT,
        environment=ENVIRONMENT,
        source="s",
        id="bad",
        code="event_too_old",
        message="too old",
        received_at_ms=LOGGED_MS,
        logged_at_ms=LOGGED_MS,
        offset=9,
        index=2,
        original=b'{"id": "\xff"}',
    )
    for _ in range(2):  # as a repeat of the block's step does
        await insert_duplicates(system.deps.clickhouse, TOPIC, 0, [copy])
        await insert_refused(system.deps.clickhouse, TOPIC, 0, [refused])
    status, body = await system.get("/v1/events/lookup?id=e3")
    assert (status, body["status"], len(body["duplicates"])) == (200, "accepted", 1)
    assert body["event"]["position"] == {"topic_id": TOPIC, "partition": 0, "offset": 0, "index": 3}
    assert body["duplicates"][0]["first"] == body["event"]["position"]
    assert (body["conflict"], body["duplicates"][0]["conflict"]) == (True, True)
    assert body["duplicates"][0]["differs"] == ["customer", "time", "properties"]
    assert (body["duplicates"][0]["customer"], body["duplicates"][0]["properties"]) == ("somebody else", {})
    assert "met_count" in [match["meter_id"] for match in body["event"]["matches"]]
    status, body = await system.get("/v1/events/lookup?id=bad&source=s")
    assert (body["status"], body["rejections"][0]["code"]) == ("rejected", "event_too_old")
    assert (await system.get("/v1/events/lookup?id=never"))[1]["code"] == "event_not_found"
    status, body = await system.get("/v1/events/rejected")
    assert [item["id"] for item in body["items"]] == ["bad"]


async def test_reconciliation_compares_the_ledger_with_the_tables(system: System) -> None:
    await system.store(some_events(100))
    around = "from=2026-09-21T00:00:00Z&to=2026-09-22T00:00:00Z"
    status, body = await system.get(f"/v1/reconciliation?{around}")
    assert status == 200, body
    assert body["items"] == [
        {
            "hour": "2026-09-21T14:00:00Z",
            "accepted": 100,
            "stored": 100,
            "duplicate": 0,
            "rejected": 0,
            "difference": 0,
        }
    ]
    ledger = Ledger(system.deps.engine)
    epoch = (await ledger.take_over(TOPIC, 0, 1)).epoch
    await ledger.finish(epoch, await ledger.write_intent(epoch, intent_of(1, 0, 5), 30))  # without its insert
    assert (await system.get(f"/v1/reconciliation?{around}"))[1]["difference"] == 5


async def test_usage_at_a_cut_is_what_was_known_then_for_every_aggregation(system: System) -> None:
    earlier = some_events(200)
    await system.store(earlier)
    cut = await system.raise_cut()
    await system.store(moved(some_events(200, seed=8), 2))
    later = await system.raise_cut()
    # Ragged at both ends: whole minutes come from the windows, the rest from events.
    start, end = START + timedelta(milliseconds=12_345), START + SPAN - timedelta(milliseconds=54_321)
    asked = f"from={start.isoformat()}&to={end.isoformat()}&customer=acme".replace("+", "%2B")
    for meter in METERS:
        for at, known in ((cut, earlier), (later, system.events)):
            status, body = await system.get(f"/v1/usage?meter={meter.key}&{asked}&at={at}&group_by=region")
            assert (status, body["cut"]) == (200, at), body
            total = value(folded(known, meter, start, end, ("acme", "acme-old")), meter.aggregation)
            assert body["total"] == (None if total is None else format_quantity(total)), meter.key
    _, now = await system.get(f"/v1/usage?meter=count&{asked}")
    assert now["cut"] is None
    status, csv = await system.get(f"/v1/usage?meter=count&{asked}&at={cut}", accept="text/csv")
    state = folded(earlier, METERS[0], start, end, ("acme", "acme-old"))
    assert csv.decode().splitlines()[1].endswith(f",{state.matches}")


async def test_a_cut_reaches_to_the_first_block_that_it_leaves_out_and_events_are_listed_at_it(system: System) -> None:
    await system.store(some_events(100))
    cut = await system.raise_cut()
    _, before = await system.get("/v1/cuts")
    assert [item["cut"] for item in before["items"]] == [cut, 1]
    more = moved(some_events(200, seed=9), 1)
    await system.store(more)
    _, body = await system.get("/v1/usage?meter=count&at=" + str(cut))
    assert datetime.fromisoformat(body["as_of"]) == LOGGED_AT + timedelta(milliseconds=min(e.offset for e in more))
    _, after = await system.get(f"/v1/cuts?to={system.deps.clock.now().isoformat()}".replace("+", "%2B"))
    assert after["items"][0] == {**before["items"][0], "reaches": body["as_of"]}
    for asked, known in (("", 300), (f"&at={cut}", 100)):
        _, page = await system.get(f"/v1/events?limit=500{asked}")
        assert len(page["items"]) == known


async def test_what_cannot_be_read_at_a_cut_is_refused_by_a_code(system: System) -> None:
    cut = await system.raise_cut()
    for asked in (f"usage?meter=count&at={cut + 1}", f"events?at={cut + 1}"):
        status, body = await system.get(f"/v1/{asked}")
        assert (status, body["code"]) == (404, "cut_unknown")
    status, body = await system.get(f"/v1/usage/stream?meter=count&at={cut}")
    assert (status, body["code"]) == (422, "stream_is_live")
    for asked in ("usage?meter=count&at=0", "usage?meter=count&at=soon", "cuts?cursor=x"):
        status, body = await system.get(f"/v1/{asked}")
        assert status == 422, asked
    ledger = Ledger(system.deps.engine)
    epoch = (await ledger.take_over(TOPIC, 0, 1)).epoch
    await ledger.write_intent(epoch, intent_of(0, 0, 1), 30)
    following = await Cuts(system.deps.engine).raise_cut(0, system.deps.clock.now())
    status, body = await system.get(f"/v1/usage?meter=count&at={following}")
    assert (status, body["code"]) == (409, "cut_open")
    _, listed = await system.get("/v1/cuts?limit=1")
    assert (listed["items"][0]["complete"], listed["next_cursor"]) == (False, str(following))
    _, rest = await system.get(f"/v1/cuts?limit=1&cursor={following}")
    assert (rest["items"][0]["cut"], rest["items"][0]["complete"]) == (cut, True)


async def test_recounts_find_a_row_that_is_lost_or_twice_wherever_it_is(system: System) -> None:
    await system.store(some_events(200))
    cut = await system.raise_cut()
    clickhouse = system.deps.clickhouse
    assert clickhouse is not None
    reader = ProgressReader(system.deps.engine, USAGE_RAW)
    vector = (await reader.progress()).vector
    day = (LOGGED_AT - timedelta(hours=1), LOGGED_AT + timedelta(days=1))

    def outcomes(one: object) -> dict[str, int]:
        return {name: getattr(one, name) for name in OUTCOMES}

    async def hours() -> list[tuple[int, str, int]]:
        counted = await reader.outcomes_by_partition_and_hour(vector, *day)
        held = await rows_by_partition_and_hour(clickhouse, TOPIC, vector, *day)
        sides = [{place: outcomes(one) for place, one in side.items()} for side in (counted, held)]
        return [(one.partition, one.outcome, one.ledger - one.rows) for one in hour_differences(*sides)]

    async def days() -> set[tuple[str, int]]:
        compared, differing = await meter_days(clickhouse, START, START + SPAN, cut, 100)
        assert compared == len(METERS) * SPAN.days
        return {(one.meter_id, one.windows.matches - one.events.matches) for one in differing}

    assert (await hours(), await days()) == ([], set())
    # What is not done yet, or known only at a later cut, is no difference.
    await insert_events(
        clickhouse,
        [replace(one, offset=9, cut=cut) for one in some_events(1)],
        system.deps.clock.now() + timedelta(minutes=1),
    )
    assert (await hours(), await days()) == ([], set())
    one = system.events[0]
    lost = f"offset = {one.offset} AND partition = {one.partition} AND `index` = {one.index}"
    await clickhouse.command(
        f"ALTER TABLE {clickhouse.database}.events DELETE WHERE {lost} SETTINGS mutations_sync = 2"
    )
    assert await hours() == [(one.partition, "stored", 1)]
    assert await days() == {(METERS[match[0]].id, 1) for match in matches_of(one)}
