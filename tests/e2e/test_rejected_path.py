"""What foreign producers write, through a real worker, into the lists and replays of the API: nothing lost, nothing twice."""

import asyncio
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer as ForeignProducer
from sqlalchemy import text

from api.app import Api, create_app
from api.auth import Authenticator
from api.deps import ApiDeps
from api.limits_view import LimitsView
from runtime.clock import SystemClock
from runtime.ids import Ids
from runtime.settings import load_settings
from schemas.events import UsageEvent
from schemas.keys import OPERATOR
from schemas.meters import Meter
from schemas.scope import Scope
from schemas.topics import CATALOG_CHANGED, USAGE_RAW
from stores.clickhouse.client import ClickhouseClient
from stores.kafka import Producer
from stores.postgres.engine import create_engine, transaction
from stores.postgres.keys import ApiKeys
from stores.postgres.ledger import Ledger
from stores.postgres.meters import create_meter, list_meters
from stores.topics import recorded_ids
from tests.support.asgi import request
from tests.support.ingest import ENVIRONMENT, NOW, TENANT, Stack, array, catalog, event, headers, home
from tests.support.pipeline import (
    Record,
    Worker,
    command,
    produce,
    produce_with_header_name,
    settings_of,
    worker,
)
from tests.support.servers import running
from tests.support.waiting import eventually_async

METERS = [
    Meter(id="met_calls", key="calls", event_types=("call",), aggregation="count"),
    Meter(id="met_bytes", key="bytes", event_types=("call",), aggregation="sum", value_property="bytes"),
]
CODECS = ("gzip", "snappy", "lz4", "zstd")
OWNER = {"tenant": TENANT, "environment": ENVIRONMENT}
SCOPE = Scope(TENANT, ENVIRONMENT)


class Site(Stack):
    """The stores, and the API in this process, with a key of the tenant and one of an operator."""

    app: Api
    deps: ApiDeps
    keys: Mapping[str, str]

    async def ask(
        self, method: str, url: str, body: Any = None, *, who: str = "tenant", **more: str
    ) -> tuple[int, Any]:
        sent = b"" if body is None else msgspec.json.encode(body)
        head = {"authorization": f"Bearer {self.keys[who]}", "content-type": "application/json", **more}
        async with request(self.app, method, url, head, sent) as answer:
            return answer.status, await answer.json()

    async def get(self, url: str, who: str = "tenant") -> Any:
        status, body = await self.ask("GET", url, who=who)
        assert status == 200, body
        return body

    async def replay(self, body: Mapping[str, Any], who: str = "tenant", **more: str) -> Any:
        status, answer = await self.ask("POST", "/v1/events/rejected/replay", body, who=who, **more)
        assert status == 200, answer
        return answer


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with running("kafka", "postgres", "clickhouse") as endpoints:
        found = settings_of(endpoints, tmp_path_factory.mktemp("rejected"))
        command(found, "migrate")
        asyncio.run(produce(endpoints["kafka_bootstrap"], CATALOG_CHANGED, [(0, catalog(1, METERS), [])], key=b"1"))
        yield found


@pytest.fixture
async def site(environ: dict[str, str]) -> AsyncIterator[Site]:
    settings = load_settings(environ)
    engine, clock = create_engine(settings.postgres), SystemClock()
    clickhouse, producer, limits = (
        ClickhouseClient(settings.clickhouse),
        Producer(settings.kafka),
        LimitsView(settings.kafka),
    )
    ids = Ids(clock)
    keys = ApiKeys(engine, clock, ids)
    found = Site(settings, (await recorded_ids(engine))[USAGE_RAW], Ledger(engine), clickhouse)
    found.deps = ApiDeps(
        settings=settings,
        clock=clock,
        ids=ids,
        engine=engine,
        producer=producer,
        auth=Authenticator(keys, 2.0, time.monotonic),
        limits=limits,
        stopping=asyncio.Event(),
        clickhouse=clickhouse,
    )
    found.app = create_app(found.deps)
    found.keys = {
        who: (await keys.create(TENANT, ENVIRONMENT, scopes))[1].reveal()
        for who, scopes in (("tenant", ["*"]), ("operator", ["*", OPERATOR]))
    }
    async with transaction(engine) as conn:  # the API reads meters there, the worker in the topic
        for meter in METERS if not await list_meters(conn, SCOPE, limit=1, after=None) else ():
            await create_meter(conn, SCOPE, meter, clock.now())
    await limits.start()
    await eventually_async(lambda: limits.is_ready, 20)
    yield found
    await limits.stop()
    await producer.stop()
    await clickhouse.close()
    await engine.dispose()


def call(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "type": "call", "customer": "c1", **more}


def bare(name: str, **more: Any) -> bytes:
    return msgspec.json.encode({**call(name), **OWNER, **more})


def at_home(name: str) -> int:
    return home(UsageEvent(id=name, type="call", customer="c1"))


DEEP = b'{"a":' * 100 + b"1" + b"}" * 100
LARGE = b"[" + b" " * ((15 << 20) + (1 << 19)) + msgspec.json.encode([call(f"large-{n}") for n in range(5)])[1:]
# One record each: its headers, its bytes, and the codes of what is refused of it.
BAD: list[tuple[list[tuple[str, bytes]], bytes, list[str]]] = [
    ([], b"\xff\xfe\x00garbage", ["malformed_json"]),
    ([], b"", ["malformed_json"]),
    ([], b"[" * 100_000, ["malformed_json"]),
    ([], msgspec.json.encode({"id": "mine", "type": "call", "source": "foreign", **OWNER}), ["field_missing"]),
    ([], msgspec.json.encode(call("nobody")), ["tenant_missing"]),
    ([("tenant", b"\xff\xfe"), ("environment", b"live")], array([event(1)]), ["tenant_missing"]),
    (
        [*headers(1)[:3], ("format", b"0"), ("version", b"1")],
        msgspec.json.encode([call("old-1"), call("old-2")]),
        ["format_unknown"],
    ),
    (headers(1), LARGE, ["record_too_large"]),
    (headers(1), b'[{"id":"lame","type":7,"customer":"c1"},1,null]', ["wrong_type", "not_an_object", "not_an_object"]),
    ([], bare("deep")[:-1] + b',"properties":' + DEEP + b"}", ["too_deep"]),
    ([], bare("long")[:-1] + b',"properties":{"n":' + b"9" * 5000 + b"}}", ["number_too_long"]),
]
UNOWNED = {"malformed_json": 3, "tenant_missing": 2}


async def test_what_foreign_producers_write_is_rejected_with_a_code_and_the_partition_goes_on(
    environ: dict[str, str], site: Site, tmp_path: Path
) -> None:
    sound = (
        bare("sound"),
        bare("twice")[:-1] + b',"id":"last-wins"}',
        bare("wide")[:-1] + b',"properties":{"bytes":1e400}}',
    )
    places = at_home("sound"), at_home("last-wins"), at_home("wide")
    stray = (at_home("stray") + 1) % 4
    mixed = msgspec.json.encode([call("mixed-1"), {"id": "mixed-2"}, call("mixed-3")])
    records: list[Record] = [(number % 4, value, head) for number, (head, value, _) in enumerate(BAD)]
    records += [(place, value, []) for place, value in zip(places, sound, strict=True)]
    records += [
        (stray, bare("stray"), []),
        (at_home("stray"), bare("stray"), []),
        (at_home("mixed-1"), mixed, headers(1)),
    ]
    with worker(environ, "ingest", tmp_path / "worker.log") as running_:
        await produce(site.bootstrap, USAGE_RAW, records)
        for codec in CODECS:
            _produce_compressed(site.bootstrap, codec)
        await produce_with_header_name(site.bootstrap, USAGE_RAW, at_home("named"), bare("named"), b"\xff\xfe")
        await eventually_async(site.is_done, 60)
        assert running_.exit_code is None

        expected = Counter(code for _, _, codes in BAD for code in codes) + Counter(["field_missing"])
        rows = await site.rows("SELECT code, count() FROM events_rejected FINAL GROUP BY code")
        assert dict(rows) == dict(expected)
        stored = {row[0] for row in await site.rows("SELECT id FROM events")}
        assert stored == {"sound", "last-wins", "wide", "stray", "mixed-1", "mixed-3", "named", *CODECS}
        assert await site.count("event_duplicates FINAL") == 1
        issues = await site.rows("SELECT issues.code FROM events WHERE id = 'wide'")
        assert issues[0][0] == ["quantity_out_of_range"]

        await _check_lists(site, expected)
        await _check_replays(site)
        await _check_operator(site)
        await eventually_async(site.is_done, 60)
        assert await site.rows("SELECT id, count() FROM events GROUP BY id HAVING count() > 1") == []
        await _check_look_ups(site)
        await _check_issues(site)
        await _reconciled(site)
        assert running_.stop() == 0


def _produce_compressed(bootstrap: str, codec: str) -> None:
    """As a librdkafka or Java client does by default settings of many a company."""
    producer = ForeignProducer({"bootstrap.servers": bootstrap, "compression.type": codec})
    producer.produce(USAGE_RAW, bare(codec, properties={"text": "a" * 4096}), partition=at_home(codec))
    assert producer.flush(20) == 0


async def _check_lists(site: Site, expected: Counter[str]) -> None:
    mine = {code: count - UNOWNED.get(code, 0) for code, count in expected.items() if count > UNOWNED.get(code, 0)}
    counts = await site.get("/v1/events/rejected/counts")
    assert {one["code"]: one["count"] for one in counts["items"]} == mine
    seen: list[Any] = []
    cursor = ""
    while True:
        page = await site.get(f"/v1/events/rejected?limit=2{cursor}")
        seen += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert Counter(one["code"] for one in seen) == mine
    assert [one["logged_at"] for one in seen] == sorted((one["logged_at"] for one in seen), reverse=True)
    large = next(one for one in seen if one["code"] == "record_too_large")
    assert (large["original_bytes"], len(large["original"]), large["replay"]) == (len(LARGE), 64 << 10, None)
    for query, ids in (
        ("source=foreign&id=mine", ["mine"]),
        ("customer=c1&code=wrong_type", ["lame"]),
        ("customer=nobody-there", []),
        (f"to={NOW - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}", []),
    ):
        assert [one["id"] for one in (await site.get(f"/v1/events/rejected?{query}"))["items"]] == ids
    status, body = await site.ask("GET", "/v1/events/rejected?unowned=true")
    assert (status, body["code"]) == (403, "scope_missing")
    nobody = await site.get("/v1/events/rejected?unowned=true", "operator")
    assert Counter(one["code"] for one in nobody["items"]) == UNOWNED
    garbage = [one for one in nobody["items"] if one["original_encoding"] == "base64"]
    assert [one["original"] for one in garbage] == ["//4AZ2FyYmFnZQ=="]


async def _check_replays(site: Site) -> None:
    before = await site.get("/v1/events/rejected?id=mine")
    [position] = [one["position"] for one in before["items"]]
    asked = {"filter": {"id": "mine"}, "patch": {"customer": "c2", "properties": {"bytes": 7}}}
    tried = await site.replay({**asked, "dry_run": True})
    assert (tried["accepted"], tried["items"][0]["event"]["customer"]) == (1, "c2")
    assert (await site.get("/v1/events/rejected?id=mine"))["items"][0]["replay"] is None

    # Two people at once, one of whom repeats it, under a key and without one.
    both = await asyncio.gather(
        site.replay(asked), site.replay({"positions": [position], "patch": asked["patch"]}), site.replay(asked)
    )
    assert [one["accepted"] for one in both] == [1, 1, 1]
    once = await site.replay(asked, **{"idempotency-key": "k1"})
    assert once["items"][0]["already_replayed"]
    assert await site.replay(asked, **{"idempotency-key": "k1"}) == once
    reused = await site.ask("POST", "/v1/events/rejected/replay", {**asked, "limit": 5}, **{"idempotency-key": "k1"})
    assert (reused[0], reused[1]["code"]) == (422, "idempotency_key_reused")
    replay = (await site.get("/v1/events/rejected?id=mine"))["items"][0]["replay"]
    assert (replay["source"], replay["id"], replay["at"] is None) == ("foreign", "mine", False)

    other = await site.replay({"positions": [position], "event": {**call("other")}})
    assert other["items"][0]["code"] == "replay_identity_changed"
    whole = await site.replay({"filter": {"code": "record_too_large"}})
    assert (whole["accepted"], sorted(one["id"] for one in whole["items"])) == (5, [f"large-{n}" for n in range(5)])
    assert (await site.replay({"filter": {"code": "format_unknown"}}))["accepted"] == 2
    same = await site.replay({"filter": {"code": "too_deep"}})
    assert (same["accepted"], same["items"][0]["code"]) == (0, "too_deep")
    nothing = await site.replay({"positions": [{**position, "offset": 1 << 40}]})
    assert nothing["items"][0]["code"] == "rejected_event_not_found"
    for wrong in ({}, {"filter": {}, "positions": [position]}, {"filter": {}, "event": call("x")}):
        assert (await site.ask("POST", "/v1/events/rejected/replay", wrong))[1]["code"] == "replay_ambiguous"


async def _check_operator(site: Site) -> None:
    nobody = (await site.get("/v1/events/rejected?unowned=true&code=malformed_json", "operator"))["items"]
    garbage = next(one["position"] for one in nobody if one["original_encoding"] == "base64")
    asked = {"positions": [garbage], "unowned": True}
    assert (await site.ask("POST", "/v1/events/rejected/replay", asked))[0] == 403
    assert (await site.replay(asked, "operator"))["items"][0]["code"] == "replay_unreadable"
    event_ = {"type": "call", "customer": "c3"}
    [sent] = (await site.replay({**asked, "event": event_}, "operator"))["items"]
    expected = f"replay-{site.topic_id}-{garbage['partition']}-{garbage['offset']}-{garbage['index']}"
    assert (sent["status"], sent["id"]) == ("accepted", expected)
    [again] = (await site.replay({**asked, "event": {**event_, "id": "another"}}, "operator"))["items"]
    assert again["code"] == "replayed_otherwise"
    # The attempt that sent it died before it could say so.
    await eventually_async(site.is_done, 60)
    async with transaction(site.deps.engine) as conn:
        await conn.execute(text("UPDATE rejected_replays SET replayed_at = NULL"))
    [repeated] = (await site.replay({**asked, "event": event_}, "operator"))["items"]
    assert (repeated["status"], repeated["already_replayed"]) == ("accepted", True)
    # And its producer sends the event anew, mended: it is one with the replay.
    await produce(site.bootstrap, USAGE_RAW, [(at_home("large-1"), bare("large-1"), [])])
    async with transaction(site.deps.engine) as conn:
        await conn.execute(text("DELETE FROM rejected_replays WHERE event_id = 'large-2'"))
    whole = await site.replay({"filter": {"code": "record_too_large"}})
    assert Counter(one["code"] for one in whole["items"]) == {None: 4, "already_stored": 1}


async def _check_look_ups(site: Site) -> None:
    found = await site.get("/v1/events/lookup?source=foreign&id=mine")
    assert (found["status"], found["event"]["customer"], len(found["rejections"])) == ("accepted", "c2", 1)
    # The replay keeps the receipt of the first time.
    assert found["event"]["received_at"] == found["rejections"][0]["received_at"]
    assert [one["meter_id"] for one in found["event"]["matches"]] == ["met_bytes", "met_calls"]
    assert (found["conflict"], found["rejections"][0]["replay"]["id"]) == (False, "mine")
    listed = await site.get("/v1/events?id=mine")
    assert [one["customer"] for one in listed["items"]] == ["c2"]
    assert found["as_of"] <= listed["as_of"]
    stray = await site.get("/v1/events/lookup?id=stray")
    assert (stray["event"]["position"]["partition"], len(stray["duplicates"])) == (at_home("stray"), 1)
    await produce(site.bootstrap, USAGE_RAW, [(at_home("sound"), bare("sound", customer="c4"), [])])
    await eventually_async(site.is_done, 60)
    sound = await site.get("/v1/events/lookup?id=sound")
    assert (sound["conflict"], sound["event"]["customer"]) == (True, "c1")
    assert [(one["customer"], one["differs"]) for one in sound["duplicates"]] == [("c4", ["customer"])]


async def _check_issues(site: Site) -> None:
    found = await site.get("/v1/meters/bytes/issues")
    assert {one["code"]: one["count"] for one in found["counts"]} == {"quantity_out_of_range": 1}
    assert [(one["id"], one["customer"], one["value"]) for one in found["items"]] == [("wide", "c1", "1E+400")]
    assert found["as_of"] > f"{NOW:%Y-%m-%dT%H:%M:%S}"
    assert (await site.get("/v1/meters/met_calls/issues?limit=1"))["total"] == 0
    assert (await site.ask("GET", "/v1/meters/none/issues"))[1]["code"] == "meter_not_found"


async def _reconciled(site: Site, start: timedelta = timedelta(days=-1), end: timedelta = timedelta(days=1)) -> Any:
    """Accepted = stored + duplicate + rejected, over all receipt hours; the answer."""
    since, until = (f"{NOW + delta:%Y-%m-%dT%H:%M:%SZ}" for delta in (start, end))
    found = await site.get(f"/v1/reconciliation?from={since}&to={until}")
    assert found["difference"] == 0
    of_tenant = f"WHERE tenant = '{TENANT}'"
    for outcome, table in (("stored", "events"), ("duplicate", "event_duplicates"), ("rejected", "events_rejected")):
        final = "" if table == "events" else "FINAL"
        [[held]] = await site.rows(f"SELECT count() FROM {table} {final} {of_tenant}")
        assert sum(hour[outcome] for hour in found["items"]) == held
    return found


class JumpingClock:
    """Off by one of these from call to call, as after a bad correction of a host's time."""

    def __init__(self, *offsets: timedelta) -> None:
        self._offsets = cycle(offsets)

    def now(self) -> datetime:
        return SystemClock().now() + next(self._offsets)


HOUR, DAY = timedelta(hours=1), timedelta(days=1)
AGE, AHEAD = timedelta(days=35), HOUR
MARGIN = timedelta(minutes=5)
CLOCKS = {
    "ahead": (DAY,),
    "behind": (-DAY,),
    "far-ahead": (300 * DAY,),
    "far-behind": (-20 * DAY,),
    "jumping": (timedelta(0), HOUR, -HOUR, DAY, -DAY),
}


async def test_what_was_answered_202_counts_once_whatever_the_clocks_of_the_hosts_say(
    environ: dict[str, str], site: Site, tmp_path: Path
) -> None:
    """The API's receipt judges, in the API and in the worker; the log's time alone decides what is a copy."""
    before = await site.count("events")
    sent: dict[str, int] = {}
    with worker(environ, "ingest", tmp_path / "worker.log") as running_:
        await eventually_async(running_.is_ready, 30)
        for host, offsets in CLOCKS.items():
            app = create_app(msgspec.structs.replace(site.deps, clock=JumpingClock(*offsets)))
            base = SystemClock().now() + offsets[0]
            times = [None, base, base + AHEAD - MARGIN, base - AGE + MARGIN, base + AHEAD + MARGIN, base - AGE - MARGIN]
            # Alone, so that they share records with those that another instant judged; and all of them twice.
            events = [
                call(f"{host}-{number}", **({} if at is None else {"time": at.isoformat()}))
                for number, at in enumerate(times * 5)
            ]
            statuses = await asyncio.gather(*(_send(site, app, one) for one in events * 2))
            for one, status in zip(events * 2, statuses, strict=True):
                sent[one["id"]] = sent.get(one["id"], 0) + (status == 202)
            if len(offsets) == 1:
                assert Counter(statuses) == {202: 40, 422: 20}
        await eventually_async(site.is_done, 60)
        assert running_.stop() == 0
    accepted = {name for name, times in sent.items() if times}
    assert await site.count("events") == before + len(accepted)
    found = await site.rows("SELECT id FROM events WHERE match(id, '^(ahead|behind|far-ahead|far-behind|jumping)-')")
    assert {row[0] for row in found} == accepted
    rejected = await site.rows("SELECT count() FROM events_rejected WHERE code IN ('event_too_old', 'event_in_future')")
    assert rejected[0][0] == 0
    skewed = await site.rows("SELECT count() FROM events WHERE abs(dateDiff('minute', ingested_at, now())) > 10")
    assert skewed[0][0] == 0
    # The receipt says in which hour it is counted, wherever that lies.
    answer = await _reconciled(site, -30 * DAY, 350 * DAY)
    assert sum(hour["difference"] for hour in answer["items"]) == 0


async def _send(site: Site, app: Api, one: Mapping[str, Any]) -> int:
    head = {"authorization": f"Bearer {site.keys['tenant']}", "content-type": "application/json"}
    async with request(app, "POST", "/v1/events", head, msgspec.json.encode(one)) as answer:
        await answer.body()
        return answer.status


async def test_the_brake_stops_one_partition_loses_nothing_and_goes_on_after_release(
    environ: dict[str, str], site: Site, tmp_path: Path
) -> None:
    before, refused = await site.count("events"), await site.count("events_rejected FINAL")
    names = {number: [f"b{n}" for n in range(400) if at_home(f"b{n}") == number] for number in range(2)}
    mine, others = names[0], names[1]
    garbage: list[Record] = [(0, b"[" + b",".join([b"1"] * 20) + b"]", headers(1)) for _ in range(10)]

    def good(some: list[str], place: int) -> list[Record]:
        return [(place, msgspec.json.encode([call(name) for name in some]), headers(1))]

    records = [
        *good(mine[:20], 0),
        garbage[0],
        *good(mine[20:40], 0),
        *garbage,
        *good(mine[40:50], 0),
        *good(others[:50], 1),
    ]
    log = tmp_path / "worker.log"
    strict = {**environ, "METERSTREAM_INGEST_REJECT_STREAK_MAX": "50"}
    with worker(strict, "ingest", log) as running_:
        await eventually_async(running_.is_ready, 30)
        await produce(site.bootstrap, USAGE_RAW, records)
        stopped = await eventually_async(lambda: _stopped(running_), 30)
        assert list(stopped) == ["usage.raw/0"]
        assert "events in a row were rejected, the last as not_an_object" in stopped["usage.raw/0"]
        assert 'meterstream_worker_partition_stopped{partition="0"} 1.0' in _metrics(running_)
        # What came before it is counted, and the other partitions go on.
        await produce(site.bootstrap, USAGE_RAW, good(others[50:60], 1))
        await eventually_async(lambda: _counted(site, before + 40 + 60), 30)
        assert running_.exit_code is None
        held = await site.count("events_rejected FINAL")
        assert refused + 20 <= held <= refused + 20 + 50
        assert running_.stop() == 0
    assert "the brake: a partition stops" in log.read_text()
    with worker(strict, "ingest", log) as again:  # a restart alone drains nothing
        await eventually_async(lambda: _stopped(again), 40)
        assert again.stop() == 0
    assert (await site.count("events"), await site.count("events_rejected FINAL")) == (before + 100, held)
    with worker({**environ, "METERSTREAM_INGEST_REJECT_STREAK_MAX": "1000"}, "ingest", log) as released:
        await eventually_async(site.is_done, 60)
        await eventually_async(released.is_ready, 20)
        assert released.stop() == 0
    assert await site.count("events") == before + 110
    assert await site.count("events_rejected FINAL") == refused + 220
    await _reconciled(site, -30 * DAY, 350 * DAY)


async def _counted(site: Site, events: int) -> bool:
    return await site.count("events") == events


def _stopped(running_: Worker) -> dict[str, str]:
    """What `/readyz` names; it answers 503 then."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{running_.port}/readyz", timeout=2):
            return {}
    except urllib.error.HTTPError as error:
        found: dict[str, str] = msgspec.json.decode(error.read()).get("stopped", {})
        return found
    except OSError:
        return {}


def _metrics(running_: Worker) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{running_.port}/metrics", timeout=2) as answer:
        return str(answer.read().decode())
