"""`POST /v1/events` against a real log and real keys: what is answered 202 is on the topic, and nothing else is."""

import asyncio
import contextlib
import gzip
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio
import zstandard
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from api.app import create_app
from api.auth import Authenticator
from api.deps import ApiDeps
from api.limits_view import LimitsView
from domain.identity import event_identity, partition_of
from runtime.clock import SystemClock
from runtime.ids import Ids
from runtime.settings import ApiSettings, KafkaSettings, PostgresSettings, Settings
from schemas.catalog import CatalogChange, CatalogVersion, TenantLimits
from schemas.topics import CATALOG_CHANGED, USAGE_RAW
from stores.kafka import Producer
from stores.postgres.engine import create_engine
from stores.postgres.keys import ApiKeys
from tests.support.database import database
from tests.support.servers import running
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.asyncio(loop_scope="module")

PARTITIONS = 4
MEBIBYTE = 1 << 20


class Log:
    """A broker of this file's own, since one test stops it."""

    def __init__(self) -> None:
        self._cleanup = contextlib.ExitStack()
        self.bootstrap = self._cleanup.enter_context(running("kafka"))["kafka_bootstrap"]

    def stop(self) -> None:
        self._cleanup.close()

    async def create_topics(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:

            async def created() -> bool:
                configs = {"max.message.bytes": str(16 * MEBIBYTE)}
                topics = [NewTopic(USAGE_RAW, PARTITIONS, 1, topic_configs=configs), NewTopic(CATALOG_CHANGED, 1, 1)]
                answer = await admin.create_topics(topics)
                return all(code == 0 for _, code, *_ in answer.topic_errors)

            check: Callable[[], Awaitable[bool]] = created
            await eventually_async(check, within_s=20)
        finally:
            await admin.close()

    async def open(self) -> None:
        self._partitions = [TopicPartition(USAGE_RAW, number) for number in range(PARTITIONS)]
        self._consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False)
        await self._consumer.start()
        self._consumer.assign(self._partitions)
        await self._consumer.seek_to_beginning(*self._partitions)

    async def close(self) -> None:
        await self._consumer.stop()

    async def records(self) -> list[Any]:
        """Everything on usage.raw that was not read before, in order within each partition."""
        ends = await self._consumer.end_offsets(self._partitions)
        found: list[Any] = []
        while any([await self._consumer.position(one) < end for one, end in ends.items()]):
            for records in (await self._consumer.getmany(timeout_ms=100)).values():
                found += records
        return found


class System:
    """The application in this process, with a client that holds a key of tenant acme."""

    def __init__(self, deps: ApiDeps, keys: ApiKeys, log: Log) -> None:
        self.deps, self.keys, self.log = deps, keys, log
        self.app = create_app(deps)
        transport = httpx.ASGITransport(app=self.app)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://api", timeout=30)
        self.key = ""

    async def post(self, body: Any, *, kind: str = "application/json", **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"content-type": kind, "authorization": f"Bearer {self.key}", **headers}
        return await self.http.post("/v1/events", content=content, headers=fields)


@pytest.fixture(scope="module")
def log() -> Iterator[Log]:
    log = Log()
    yield log
    log.stop()


@pytest.fixture(scope="module")
def postgres(postgres_url: str) -> Iterator[PostgresSettings]:
    with database(postgres_url, "test_api_ingest") as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def started(log: Log, postgres: PostgresSettings) -> AsyncIterator[System]:
    await log.create_topics()
    await log.open()
    kafka = KafkaSettings(bootstrap=log.bootstrap, raw_partitions=PARTITIONS, request_timeout_s=3)
    api = ApiSettings(key_cache_s=0.2, inflight_max_bytes=24 * MEBIBYTE)
    settings = Settings(kafka=kafka, postgres=postgres, api=api)
    clock = SystemClock()
    ids = Ids(clock)
    engine = create_engine(postgres)
    producer, limits = Producer(kafka), LimitsView(kafka)
    await producer.start()
    await limits.start()
    keys = ApiKeys(engine, clock, ids)
    deps = ApiDeps(
        settings=settings,
        clock=clock,
        ids=ids,
        engine=engine,
        producer=producer,
        auth=Authenticator(keys, api.key_cache_s, time.monotonic),
        limits=limits,
        stopping=asyncio.Event(),
    )
    system = System(deps, keys, log)
    _, secret = await keys.create("acme", "live", ["events:write"])
    system.key = secret.reveal()
    await eventually_async(lambda: limits.is_ready, within_s=20)
    yield system
    await system.http.aclose()
    await limits.stop()
    await producer.stop()
    await engine.dispose()
    await log.close()


@pytest_asyncio.fixture(loop_scope="module")
async def system(started: System) -> System:
    """The one application of this file; `records()` are those of this test."""
    await started.log.records()
    return started


def event(number: int | str, **changes: Any) -> dict[str, Any]:
    return {"id": f"evt-{number}", "source": "gw", "type": "api.request", "customer": "c1", **changes}


def ids_of(records: list[Any]) -> list[str]:
    return sorted(sent["id"] for record in records for sent in json.loads(record.value))


async def set_limits(system: System, limits: TenantLimits) -> None:
    version = system.deps.limits.fold.version + 1
    change = CatalogChange(kind="limits", tenant="acme", environment="live", key="", body=msgspec.to_builtins(limits))
    value = msgspec.json.encode(CatalogVersion(version=version, changes=[change]))
    await system.deps.producer.send(CATALOG_CHANGED, 0, value=value, key=str(version).encode())
    await eventually_async(lambda: system.deps.limits.fold.version == version, within_s=10)


async def test_accepted_events_are_on_the_topic_in_their_partitions_with_headers(system: System) -> None:
    before_ms = time.time_ns() // 1_000_000
    answer = await system.post([event(number, properties={"n": number, "big": 10**40}) for number in range(300)])
    assert answer.status_code == 202
    assert answer.json() == {"accepted": 300, "rejected": []}
    assert answer.headers["ratelimit-limit"] == str(24 * MEBIBYTE)
    records = await system.log.records()
    assert ids_of(records) == sorted(f"evt-{number}" for number in range(300))
    assert len(records) == PARTITIONS
    for record in records:
        headers = dict(record.headers)
        assert headers["tenant"] == b"acme"
        assert headers["environment"] == b"live"
        assert headers["format"] == b"1"
        assert headers["version"] == b"0"
        assert before_ms <= int(headers["received_at_ms"]) <= time.time_ns() // 1_000_000
        for sent in json.loads(record.value):
            assert partition_of(event_identity("acme", "live", "gw", sent["id"]), PARTITIONS) == record.partition
            assert sent["properties"]["big"] == 10**40


async def test_a_record_is_split_at_its_largest_size(system: System) -> None:
    answer = await system.post([event(number, properties={"text": "x" * 100_000}) for number in range(40)])
    assert answer.status_code == 202
    records = await system.log.records()
    assert len(records) > PARTITIONS
    assert all(len(record.value) <= 512 << 10 for record in records)
    assert len(ids_of(records)) == 40


async def test_good_events_of_a_request_are_accepted_beside_bad_ones(system: System) -> None:
    now = SystemClock().now()
    deep: Any = "x"
    for _ in range(40):
        deep = {"a": deep}
    bad: list[tuple[Any, str]] = [
        (17, "not_an_object"),
        ({"id": "a", "type": "t"}, "field_missing"),
        (event("b", type=7), "wrong_type"),
        (event("c", colour="red"), "unknown_field"),
        (event("d", tenant="other"), "unknown_field"),
        (event("e", time=(now - timedelta(days=36)).isoformat()), "event_too_old"),
        (event("f", time=(now + timedelta(hours=2)).isoformat()), "event_in_future"),
        (event("g", time="yesterday"), "time_malformed"),
        (event("h", properties=[1]), "properties_not_an_object"),
        (event("i", properties=deep), "too_deep"),
        (event("j", properties={"text": "x" * (256 << 10)}), "event_too_large"),
        (event("k", id=""), "empty_field"),
        (event("l", customer="x" * 300), "field_too_long"),
    ]
    good = [event("good-1"), event("good-2", properties={"sixty": int("9" * 60)})]
    answer = await system.post([good[0], *[body for body, _ in bad], good[1]])
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 2
    rejected = answer.json()["rejected"]
    assert [(one["index"], one["code"]) for one in rejected] == list(enumerate([code for _, code in bad], 1))
    assert rejected[2]["id"] == "evt-b"
    assert ids_of(await system.log.records()) == ["evt-good-1", "evt-good-2"]
    refused = await system.post([body for body, _ in bad])
    assert refused.status_code == 422
    assert refused.json()["accepted"] == 0
    assert len(refused.json()["rejected"]) == len(bad)


@pytest.mark.parametrize(
    ("body", "kind", "headers", "status", "code"),
    [
        (b"{", "application/json", {}, 422, "malformed_json"),
        (b'[{"id": NaN}]', "application/json", {}, 422, "malformed_json"),
        (b"\xff\xfe", "application/json", {}, 422, "malformed_json"),
        (b"", "application/json", {}, 422, "malformed_json"),
        (b"[]", "application/json", {}, 422, "no_events"),
        (b"\n\n", "application/x-ndjson", {}, 422, "no_events"),
        (b"[" * 200_000, "application/json", {}, 422, "too_deep"),
        (b"{}", "text/plain", {}, 415, "unsupported_media_type"),
        (b"{}", "application/json", {"content-encoding": "br"}, 415, "unsupported_media_type"),
        (b"no gzip", "application/json", {"content-encoding": "gzip"}, 422, "malformed_encoding"),
        (
            gzip.compress(b"[]", mtime=0)[:-4],
            "application/json",
            {"content-encoding": "gzip"},
            422,
            "malformed_encoding",
        ),
        (b"[" + b"1," * 10_000 + b"1]", "application/json", {}, 413, "body_too_large"),
        (b"1\n" * 10_001, "application/x-ndjson", {}, 413, "body_too_large"),
        (b" " * (16 * MEBIBYTE + 1), "application/json", {}, 413, "body_too_large"),
        (
            gzip.compress(bytes(200 * MEBIBYTE), 9, mtime=0),
            "application/json",
            {"content-encoding": "gzip"},
            413,
            "body_too_large",
        ),
        (
            zstandard.compress(bytes(200 * MEBIBYTE)),
            "application/json",
            {"content-encoding": "zstd"},
            413,
            "body_too_large",
        ),
    ],
)
async def test_a_bad_body_is_a_problem_with_a_documented_code(
    system: System, body: bytes, kind: str, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await system.post(body, kind=kind, **headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert await system.log.records() == []


async def test_keys_are_asked_for_and_a_revoked_one_stops_working(system: System) -> None:
    missing = await system.post([event(1)], authorization="")
    assert (missing.status_code, missing.json()["code"]) == (401, "unauthorized")
    unknown = await system.post([event(1)], authorization="Bearer ms_aaaaaaaa_nothing")
    assert (unknown.status_code, unknown.json()["code"]) == (401, "unauthorized")
    _, reader = await system.keys.create("acme", "live", ["usage:read"])
    lacking = await system.post([event(1)], authorization=f"Bearer {reader.reveal()}")
    assert (lacking.status_code, lacking.json()["code"]) == (403, "scope_missing")
    kept, secret = await system.keys.create("other", "test", ["*"])
    own = {"authorization": f"Bearer {secret.reveal()}"}
    assert (await system.post([event(1)], **own)).status_code == 202
    assert [dict(record.headers)["tenant"] for record in await system.log.records()] == [b"other"]
    await system.keys.revoke(kept.id)

    async def refused() -> bool:
        return (await system.post([event(2)], **own)).status_code == 401

    check: Callable[[], Awaitable[bool]] = refused
    await eventually_async(check, within_s=5)


async def test_every_format_and_encoding_is_taken(system: System) -> None:
    cloud = {"specversion": "1.0", "source": "/gw", "type": "t", "subject": "c1", "data": {"n": 1}, "ext": "ignored"}
    lines = b"\n".join(json.dumps(event(f"line-{number}")).encode() for number in range(3))
    sent: list[tuple[bytes, str, dict[str, str]]] = [
        (json.dumps(event("one")).encode(), "application/json; charset=utf-8", {}),
        (lines + b"\n", "application/x-ndjson", {}),
        (json.dumps({**cloud, "id": "evt-ce"}).encode(), "application/cloudevents+json", {}),
        (json.dumps([{**cloud, "id": "evt-ce-1"}]).encode(), "application/cloudevents-batch+json", {}),
        (
            gzip.compress(json.dumps([event("gzip")]).encode(), mtime=0),
            "application/json",
            {"content-encoding": "gzip"},
        ),
        (zstandard.compress(json.dumps([event("zstd")]).encode()), "application/json", {"content-encoding": "zstd"}),
    ]
    for body, kind, headers in sent:
        answer = await system.post(body, kind=kind, **headers)
        assert answer.status_code == 202, answer.text
    wanted = ["evt-ce", "evt-ce-1", "evt-gzip", "evt-line-0", "evt-line-1", "evt-line-2", "evt-one", "evt-zstd"]
    assert ids_of(await system.log.records()) == wanted


async def test_a_broken_line_is_rejected_by_its_index_and_the_others_are_accepted(system: System) -> None:
    lines = [json.dumps(event(0)), '{"id": "cut off', json.dumps(event(2))]
    answer = await system.post("\n".join(lines).encode(), kind="application/x-ndjson")
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 2
    assert [(one["index"], one["code"]) for one in answer.json()["rejected"]] == [(1, "malformed_json")]
    assert ids_of(await system.log.records()) == ["evt-0", "evt-2"]


async def test_the_same_id_twice_in_a_request_is_accepted_and_left_to_the_duplicate_filter(system: System) -> None:
    answer = await system.post([event(1), event(1)])
    assert answer.json() == {"accepted": 2, "rejected": []}
    assert ids_of(await system.log.records()) == ["evt-1", "evt-1"]


async def test_concurrent_single_events_share_records_and_none_is_lost(system: System) -> None:
    answers = await asyncio.gather(*(system.post(event(number)) for number in range(200)))
    assert {answer.status_code for answer in answers} == {202}
    records = await system.log.records()
    assert ids_of(records) == sorted(f"evt-{number}" for number in range(200))
    assert len(records) < 100


async def test_limits_of_the_tenant_judge_and_the_catalog_version_goes_with_the_record(system: System) -> None:
    old = event("old", time=(SystemClock().now() - timedelta(days=300)).isoformat())
    assert (await system.post([old])).status_code == 422
    await set_limits(system, TenantLimits(max_event_age_s=400 * 86_400))
    assert (await system.post([old])).status_code == 202
    assert [dict(record.headers)["version"] for record in await system.log.records()] == [b"1"]
    await set_limits(system, TenantLimits(reject_unknown_customer=True))
    refused = await system.post([event("who")])
    assert [one["code"] for one in refused.json()["rejected"]] == ["unknown_customer"]
    await set_limits(system, TenantLimits())


async def test_what_would_exceed_the_bytes_in_flight_is_refused_before_it_is_read(system: System) -> None:
    system.app.ingest._inflight.reserve(20 * MEBIBYTE)
    fields = {"authorization": f"Bearer {system.key}", "content-type": "application/json"}
    answer = await system.http.post("/v1/events", content=b" " * (5 * MEBIBYTE), headers=fields)
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert answer.headers["retry-after"] == "1"
    system.app.ingest._inflight.release(20 * MEBIBYTE)
    assert (await system.post([event(1)])).status_code == 202
    assert system.app.ingest._inflight.used_bytes == 0


async def test_no_answer_of_the_broker_is_503_and_never_a_silent_202(system: System) -> None:
    """Last: it stops this file's broker."""
    accepted = [event(f"before-{number}") for number in range(5)]
    assert (await system.post(accepted)).json()["accepted"] == 5
    assert len(ids_of(await system.log.records())) == 5
    await system.log.close()
    system.log.stop()
    began = time.monotonic()
    answer = await system.post([event("after")])
    assert time.monotonic() - began < 7
    assert (answer.status_code, answer.json()["code"]) == (503, "kafka_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    # What is overdue refuses the next at once, single or not, and holds no memory of the request.
    began = time.monotonic()
    assert (await system.post(event("single"))).status_code == 503
    assert time.monotonic() - began < 2
    assert system.app.ingest._inflight.used_bytes == 0
