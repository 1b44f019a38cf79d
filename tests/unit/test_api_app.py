"""The application without any service: operations, errors, keys, the schema, the dashboard's files."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from api.app import create_app
from api.auth import Authenticator, Principal, check_scope
from api.conventions import page_of
from api.deps import ApiDeps
from api.errors import Problem, RateLimited, ScopeMissing, Unauthorized, translate
from api.limits_view import LimitsFold, LimitsView
from api.openapi import complete
from api.openapi_examples import EXAMPLES
from api.operations import StaticFiles
from domain.errors import Conflict, FieldError, Invalid, NotFound, Unavailable
from runtime.clock import SystemClock
from runtime.ids import Ids
from runtime.readiness import Part, Readiness
from runtime.settings import Settings
from schemas.addons import AddonPatch, AddonSpec, AddonVersionDraft, AddonVersionPatch
from schemas.backtests import BacktestRequest
from schemas.catalog import CatalogChange, CatalogVersion, TenantLimits
from schemas.customers import CustomerSpec
from schemas.invoices import PreviewRequest
from schemas.meters import MeterSpec
from schemas.plan_drafts import PlanClone, PlanPatch, PlanVersionDraft, PlanVersionPatch
from schemas.subscription_requests import CancelSpec, ChangeSpec, PauseSpec
from schemas.subscriptions import SubscriptionSpec
from stores.kafka import Producer
from stores.postgres.engine import create_engine
from tests.support.keys import Keys

IDS = Ids(SystemClock())
BODIES: dict[str, Any] = {
    body.__name__: body
    for body in (
        AddonPatch,
        AddonSpec,
        AddonVersionDraft,
        AddonVersionPatch,
        BacktestRequest,
        CancelSpec,
        ChangeSpec,
        CustomerSpec,
        MeterSpec,
        PauseSpec,
        PlanClone,
        PlanPatch,
        PlanVersionDraft,
        PlanVersionPatch,
        PreviewRequest,
        SubscriptionSpec,
    )
}


async def no() -> bool:
    return False


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings()
    deps = ApiDeps(
        settings=settings,
        clock=SystemClock(),
        ids=IDS,
        engine=create_engine(settings.postgres),
        producer=Producer(settings.kafka),
        auth=Authenticator(Keys(), 2, lambda: 0.0),
        limits=LimitsView(settings.kafka),
        stopping=asyncio.Event(),
        readiness=Readiness([Part(name="kafka", is_there=no), Part(name="clickhouse", is_there=no, need="never")]),
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(deps)), base_url="http://api") as client:
        yield client


async def test_operations_answer_without_a_key(http: httpx.AsyncClient) -> None:
    assert (await http.get("/healthz")).json() == {"status": "ok"}
    ready = await http.get("/readyz")
    assert ready.status_code == 503
    assert ready.json() == {"ready": False, "missing": ["kafka"], "degraded": ["clickhouse"]}
    metrics = await http.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "meterstream_ingest_events_accepted_total" in metrics.text


async def test_what_does_not_exist_is_a_problem(http: httpx.AsyncClient) -> None:
    for method, path, status, code in (
        ("GET", "/nothing", 404, "not_found"),
        ("DELETE", "/healthz", 405, "method_not_allowed"),
        ("GET", "/v1/events", 401, "unauthorized"),
        ("POST", "/v1/events", 401, "unauthorized"),
        ("GET", "/dashboard/nothing", 404, "not_found"),
    ):
        answer = await http.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_key_without_the_scope_is_refused(http: httpx.AsyncClient) -> None:
    lacking = await http.post("/v1/events", headers={"authorization": "Bearer good"}, content=b"{}")
    assert (lacking.status_code, lacking.json()["code"]) == (403, "scope_missing")


async def test_the_schema_describes_every_path_and_the_bare_one_with_examples(http: httpx.AsyncClient) -> None:
    schema = (await http.get("/openapi.json")).json()
    assert schema["openapi"].startswith("3.1")
    post = schema["paths"]["/v1/events"]["post"]
    assert "get" in schema["paths"]["/v1/events"]
    assert set(post["responses"]) == {"202", "401", "403", "413", "415", "422", "429", "503"}
    assert post["requestBody"]["content"]["application/json"]["examples"]["one"]["value"]["customer"] == "acme"
    for path, item in schema["paths"].items():
        for operation in item.values():
            assert "400" not in operation["responses"], path
    _references_resolve(schema, schema)


async def test_every_example_of_a_body_is_one_that_its_request_takes(http: httpx.AsyncClient) -> None:
    schema = (await http.get("/openapi.json")).json()
    for (path, method), examples in EXAMPLES.items():
        content = schema["paths"][path][method]["requestBody"]["content"]["application/json"]
        assert {name: each["value"] for name, each in content["examples"].items()} == examples
        [reference] = [one["$ref"] for one in content["schema"].get("oneOf", [content["schema"]]) if "$ref" in one]
        body = BODIES[reference.rsplit("/", 1)[1]]
        for example in examples.values():
            msgspec.convert(example, body)


def _references_resolve(node: Any, schema: dict[str, Any]) -> None:
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str):
            found: Any = schema
            for step in reference.removeprefix("#/").split("/"):
                found = found[step]
        for value in node.values():
            _references_resolve(value, schema)
    elif isinstance(node, list):
        for value in node:
            _references_resolve(value, schema)


async def test_the_docs_load_nothing_from_elsewhere(http: httpx.AsyncClient) -> None:
    page = (await http.get("/docs")).text
    assert "/v1/events" in page
    for outside in ("http://", "https://", "<script", "<link", "src="):
        assert outside not in page


def test_completing_the_schema_changes_nothing_given() -> None:
    given: dict[str, Any] = {"info": {}, "paths": {"/x": {"get": {"responses": {"400": {}, "200": {}}}}}}
    kept = msgspec.json.encode(given)
    complete(given)
    assert msgspec.json.encode(given) == kept


async def test_dashboard_redirects_to_its_directory(http: httpx.AsyncClient) -> None:
    answer = await http.get("/dashboard")
    assert (answer.status_code, answer.headers["location"]) == (308, "/dashboard/")


def test_static_files_are_those_of_the_directory_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "dist" / "assets").mkdir(parents=True)
    (tmp_path / "dist" / "index.html").write_text("<p>")
    (tmp_path / "dist" / "assets" / "a-1.js").write_text("1")
    (tmp_path / "secret").write_text("no")
    files = StaticFiles(tmp_path / "dist")
    assert files.find("/").media_type == "text/html; charset=utf-8"
    assert files.find("/assets/a-1.js/").is_hashed
    for outside in ("../secret", "/../secret", "/assets", "/index.html/../../secret"):
        with pytest.raises(NotFound):
            files.find(outside)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Invalid("wrong", "it is wrong", [FieldError(pointer="/a", code="wrong", message="a")]), 422, "wrong"),
        (NotFound("thing_not_found", "no such thing"), 404, "thing_not_found"),
        (Conflict("taken", "it is taken"), 409, "taken"),
        (Unavailable("kafka", "away", retry_after_s=3), 503, "kafka_unavailable"),
        (Unauthorized(), 401, "unauthorized"),
        (ScopeMissing("no"), 403, "scope_missing"),
        (RateLimited("no"), 429, "rate_limited"),
        (RecursionError("maximum recursion depth exceeded"), 422, "malformed_json"),
        (ZeroDivisionError("a secret inside"), 500, "internal_error"),
    ],
)
def test_each_kind_of_error_has_its_status(error: Exception, status: int, code: str) -> None:
    answer = translate(error, IDS)
    problem = msgspec.json.decode(answer.body, type=Problem)
    assert (problem.status, problem.code) == (status, code)
    assert ("Retry-After" in answer.headers) == (status in {429, 503})
    if status == 500:
        assert str(problem.id).startswith("err_")
        assert b"secret" not in answer.body


def test_the_star_holds_every_scope() -> None:
    holder = Principal(tenant="t", environment="e", scopes=frozenset({"*"}), key_id="k")
    check_scope(holder, "events:write")
    with pytest.raises(ScopeMissing):
        check_scope(Principal(tenant="t", environment="e", scopes=frozenset({"admin"}), key_id="k"), "events:write")


def change(kind: Any, key: str, body: dict[str, Any] | None) -> CatalogChange:
    return CatalogChange(kind=kind, tenant="acme", environment="live", key=key, body=body)


def test_the_limits_fold_keeps_the_newest_version_of_each() -> None:
    fold = LimitsFold()
    first = CatalogVersion(
        version=1,
        changes=[
            change("limits", "", {"max_event_age_s": 10}),
            change("customer", "cus_1", {"id": "cus_1", "references": ["cus_1", "acme", "old"]}),
            change("meter", "met_1", {}),
        ],
    )
    second = CatalogVersion(
        version=2,
        changes=[
            change("limits", "", None),
            change("customer", "cus_1", {"id": "cus_1", "references": ["cus_1", "acme"]}),
        ],
    )
    fold.apply(first)
    assert fold.limits_of("acme", "live").max_event_age_s == 10
    assert fold.limits_of("acme", "test") == TenantLimits()
    assert fold.knows_customer("acme", "live", "old")
    for version in (second, first, second):
        fold.apply(version)
    assert fold.version == 2
    assert fold.limits_of("acme", "live") == TenantLimits()
    assert not fold.knows_customer("acme", "live", "old")
    assert fold.knows_customer("acme", "live", "acme")
    assert not fold.knows_customer("other", "live", "acme")


class Thing(msgspec.Struct, frozen=True):
    id: str


def test_a_page_names_the_next_only_when_there_is_one() -> None:
    things = [Thing(f"t{number}") for number in range(3)]
    assert page_of(things, 2).next_cursor == "t1"
    assert [thing.id for thing in page_of(things, 2).items] == ["t0", "t1"]
    assert page_of(things, 3).next_cursor is None
    assert page_of([], 3).items == []
