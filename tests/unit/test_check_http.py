"""`POST /v1/check` over HTTP, without any service: who may ask, what bad bodies get, one and many."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest

from api.app import create_app
from api.auth import Authenticator
from api.deps import ApiDeps
from api.entitlements_view import EntitlementsFold, EntitlementsView
from api.limits_view import LimitsView
from runtime.clock import SystemClock
from runtime.ids import Ids
from runtime.settings import Settings
from schemas.contracts import CustomerContract, Entitlement, EntitlementsState
from schemas.keys import ApiKey
from stores.kafka import Producer, Record
from stores.postgres.engine import create_engine

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
CHECK = {"customer": "acme-1", "feature": "support"}


class Keys:
    async def find(self, text: str) -> ApiKey | None:
        scopes = {"asker": ["checks:read"], "sender": ["events:write"]}.get(text)
        if scopes is None:
            return None
        return ApiKey(
            id="key_1",
            tenant="acme",
            environment="live",
            name="",
            prefix="aaaaa",
            scopes=scopes,
            created_at=BEGAN,
            revoked_at=None,
        )


class Read(EntitlementsView):
    """Read to its end, without a broker."""

    def __init__(self, settings: Settings, fold: EntitlementsFold) -> None:
        super().__init__(settings.kafka)
        self._read = fold

    def current(self) -> EntitlementsFold:
        return self._read


def fold() -> EntitlementsFold:
    support = Entitlement(
        feature_id="fea_1", feature_key="support", kind="boolean", subscription_id="sub_1", starts_at=BEGAN
    )
    contract = CustomerContract(
        version=1,
        tenant="acme",
        environment="live",
        customer_id="cus_1",
        references=["cus_1", "acme-1"],
        entitlements=[support],
    )
    state = EntitlementsState(version=(0, 0), as_of_ms=1, contract=contract, counters=[])
    found = EntitlementsFold()
    found.apply(Record(partition=0, offset=0, timestamp_ms=0, key=b"key", value=msgspec.json.encode(state)))
    return found


def client_of(view: EntitlementsView | None) -> httpx.AsyncClient:
    settings = Settings()
    ids = Ids(SystemClock())
    deps = ApiDeps(
        settings=settings,
        clock=SystemClock(),
        ids=ids,
        engine=create_engine(settings.postgres),
        producer=Producer(settings.kafka),
        auth=Authenticator(Keys(), 2, lambda: 0.0),
        limits=LimitsView(settings.kafka),
        stopping=asyncio.Event(),
        entitlements=view,
    )
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(deps)),
        base_url="http://api",
        headers={"authorization": "Bearer asker"},
    )


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(Read(Settings(), fold())) as client:
        yield client


async def test_one_check_and_many(http: httpx.AsyncClient) -> None:
    one = await http.post("/v1/check", json=CHECK)
    assert (one.status_code, one.json()["allowed"], one.json()["reason"]) == (200, True, "enabled")
    many = await http.post("/v1/check", json=[{**CHECK, "customer": "nobody"}, CHECK])
    assert [answer.get("error", {}).get("code", answer.get("reason")) for answer in many.json()] == [
        "customer_not_found",
        "enabled",
    ]
    features = await http.get("/v1/customers/acme-1/entitlements")
    assert [(item["feature"], item["allowed"]) for item in features.json()["items"]] == [("support", True)]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "malformed_json"),
        (b"{", 422, "malformed_json"),
        (b"[1,", 422, "malformed_json"),
        (b"\xff\xfe", 422, "malformed_json"),
        (b"[" * 100_000, 422, "malformed_json"),
        (b"[]", 422, "invalid_request"),
        (b"3", 422, "invalid_request"),
        (b"[" + b"1," * 1000 + b"1]", 422, "invalid_request"),
        (b'{"customer":"acme-1"}', 422, "invalid_request"),
        (b'{"customer":"acme-1","feature":"support","quantity":"1e99"}', 422, "quantity_out_of_range"),
        (b'{"customer":"nobody","feature":"support"}', 404, "customer_not_found"),
        (b" " * ((1 << 20) + 1), 413, "body_too_large"),
    ],
)
async def test_bad_bodies_get_a_code(http: httpx.AsyncClient, body: bytes, status: int, code: str) -> None:
    answer = await http.post("/v1/check", content=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_only_a_key_for_checks_may_ask(http: httpx.AsyncClient) -> None:
    for key, status, code in (("nobody's", 401, "unauthorized"), ("sender", 403, "scope_missing")):
        headers = {"authorization": f"Bearer {key}"}
        for answer in (
            await http.post("/v1/check", json=CHECK, headers=headers),
            await http.get("/v1/customers/acme-1/entitlements", headers=headers),
        ):
            assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_before_the_balances_are_read_nothing_is_answered() -> None:
    unread: list[Any] = [None, EntitlementsView(Settings().kafka)]
    for view in unread:
        async with client_of(view) as http:
            answer = await http.post("/v1/check", json=CHECK)
            assert (answer.status_code, answer.json()["code"]) == (503, "entitlements_unavailable")
            assert answer.headers["retry-after"] == "1"
