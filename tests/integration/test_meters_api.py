"""`/v1/meters` and what may refer to a meter, over HTTP: expressions, levels, percentiles, moving windows."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest_asyncio
from msgspec.structs import replace
from sqlalchemy import text
from temporalio.testing import ActivityEnvironment

from api.app import Api, create_app
from api.auth import Authenticator
from api.deps import ApiDeps
from api.limits_view import LimitsView
from runtime.clock import SystemClock
from runtime.settings import Settings
from schemas.closing import ClosingBatch, DueQuestion
from schemas.prices import PerUnitPrice, PlanPrice
from stores.kafka import Producer
from stores.postgres.engine import transaction
from stores.postgres.keys import ApiKeys
from tests.support.asgi import request
from tests.support.closing import Books, books, call
from tests.support.usage_events import ENVIRONMENT, TENANT

MAY, JUNE, JULY = (datetime(2026, month, 1, tzinfo=UTC) for month in (5, 6, 7))
TOKENS = {
    "key": "weighed",
    "event_types": ["call"],
    "aggregation": "sum",
    "value_expression": "usage.in + 4 * usage.out",
}


class Client:
    """One key with every scope."""

    def __init__(self, app: Api, headers: dict[str, str]) -> None:
        self._app = app
        self._headers = headers

    async def get(self, url: str, **headers: str) -> tuple[int, Any]:
        async with request(self._app, "GET", url, self._headers | headers) as answer:
            body = await answer.body() if headers else await answer.json()
            return answer.status, body

    async def post(self, url: str, body: Any) -> tuple[int, Any]:
        headers = self._headers | {"content-type": "application/json"}
        async with request(self._app, "POST", url, headers, msgspec.json.encode(body)) as answer:
            return answer.status, await answer.json()


@pytest_asyncio.fixture
async def made(postgres_url: str, clickhouse_url: str) -> AsyncIterator[Books]:
    async with books(postgres_url, clickhouse_url, "meters_api") as found:
        yield found


@pytest_asyncio.fixture
async def client(made: Books) -> Client:
    settings = Settings()
    keys = ApiKeys(made.engine, SystemClock(), made.ids)
    app = create_app(
        ApiDeps(
            settings=settings,
            clock=SystemClock(),
            ids=made.ids,
            engine=made.engine,
            producer=Producer(settings.kafka),
            auth=Authenticator(keys, 2.0, asyncio.get_running_loop().time),
            limits=LimitsView(settings.kafka),
            stopping=asyncio.Event(),
            clickhouse=made.clickhouse,
        )
    )
    _, secret = await keys.create(TENANT, ENVIRONMENT, ["*"])
    return Client(app, {"authorization": f"Bearer {secret.reveal()}"})


async def test_a_meter_with_an_expression_is_kept_as_it_was_sent(client: Client) -> None:
    status, meter = await client.post("/v1/meters", TOKENS)
    assert (status, meter["value_expression"], meter["value_property"]) == (201, TOKENS["value_expression"], None)
    assert await client.get("/v1/meters/weighed") == (200, meter)
    status, page = await client.get("/v1/usage?meter=weighed")
    assert (status, page["total"]) == (200, "0")


async def test_a_wrong_value_of_a_meter_is_refused_at_its_place(client: Client) -> None:
    for change, code, pointer in (
        ({"value_property": "usage.in"}, "value_ambiguous", "/value_expression"),
        ({"value_expression": "usage.in +"}, "expression_malformed", "/value_expression"),
        ({"value_expression": "a" * 1001}, "expression_too_long", "/value_expression"),
        ({"value_expression": "`\u0000`"}, "nul_character", None),
        ({"value_expression": 7}, "invalid_request", None),
        ({"aggregation": "median"}, "invalid_request", None),
        ({"aggregation": "percentile", "percent": 42}, "invalid_request", None),
        ({"percent": 90}, "percent_unused", "/percent"),
        ({"carry": False}, "carry_unused", "/carry"),
    ):
        status, problem = await client.post("/v1/meters", TOKENS | change)
        assert (status, problem["code"]) == (422, code), change
        if pointer is not None:
            assert [one["pointer"] for one in problem["errors"]] == [pointer]


async def test_a_percentile_is_not_sold_and_what_balances_cannot_tell_limits_nothing(client: Client) -> None:
    for key, aggregation in (("p99", "percentile"), ("stored", "weighted_sum")):
        spec = {"key": key, "event_types": ["call"], "aggregation": aggregation, "value_property": "amount"}
        assert (await client.post("/v1/meters", spec))[0] == 201
        status, problem = await client.post("/v1/features", {"key": key, "kind": "metered", "meter": key})
        assert (status, problem["code"], problem["errors"][0]["pointer"]) == (422, "meter_not_limited", "/meter")

    def plan(meter: str) -> dict[str, Any]:
        fee = {"key": "fee", "price": {"model": "flat", "amount": "1"}}
        usage = {"key": "use", "meter": meter, "price": {"model": "per_unit", "unit_amount": "1"}}
        return {"key": f"of-{meter}", "currency": "EUR", "prices": [fee, usage]}

    status, problem = await client.post("/v1/plans", plan("p99"))
    assert (status, problem["code"], problem["errors"][0]["pointer"]) == (422, "meter_not_billable", "/prices/1/meter")
    assert (await client.post("/v1/plans", plan("stored")))[0] == 201


async def test_usage_slides_and_falls_into_sessions(client: Client, made: Books) -> None:
    await made.subscribe("acme", MAY)
    minute, second = timedelta(minutes=1), timedelta(seconds=1)
    times = [MAY + 30 * second, MAY + 90 * second, MAY + 10 * minute]
    await made.count([replace(call(n, "acme", at, "ann"), amount=Decimal(n + 1)) for n, at in enumerate(times)])
    span = "from=2026-05-01T00:00:00Z&to=2026-05-01T00:03:00Z"
    asked = f"/v1/usage?meter=count&customer=acme&{span}&window="
    status, body = await client.get(f"{asked}rolling:PT2M")
    assert (status, body["total"], [item["value"] for item in body["items"]]) == (200, "2", ["0", "1", "2"])
    assert (body["items"][0]["window_start"], body["items"][0]["window_end"]) == (
        "2026-04-30T23:58:00Z",
        "2026-05-01T00:00:00Z",
    )
    status, body = await client.get(f"{asked}session:PT5M")
    assert [(item["window_start"], item["window_end"], item["value"]) for item in body["items"]] == [
        ("2026-05-01T00:00:30Z", "2026-05-01T00:06:30Z", "2")
    ]
    status, lines = await client.get(f"{asked}session:PT5M", accept="text/csv")
    assert lines.decode().splitlines()[1] == "2026-05-01T00:00:30Z,2026-05-01T00:06:30Z,2"
    for window, code in (
        ("rolling:PT30S", "window_unknown"),
        ("rolling:1h", "window_unknown"),
        ("session:P400D", "window_unknown"),
    ):
        status, problem = await client.get(f"{asked}{window}")
        assert (status, problem["code"]) == (422, code), window
    status, problem = await client.get(f"/v1/usage?meter=count&{span}&window=session:PT5M")
    assert (status, problem["code"]) == (422, "customer_missing")
    status, problem = await client.get("/v1/usage?meter=count&window=rolling:PT5M")
    assert (status, problem["code"]) == (422, "too_many_windows")
    status, problem = await client.get("/v1/usage/stream?meter=count&customer=acme&window=session:PT5M")
    assert (status, problem["code"]) == (422, "window_unsuited")
    for years in (
        "from=0001-01-01T00:00:00Z&to=0001-01-01T00:10:00Z",
        "from=9999-12-31T23:50:00Z&to=9999-12-31T23:59:59Z",
    ):
        for window in ("rolling:PT5M", "session:PT5M", "hour"):
            status, problem = await client.get(f"/v1/usage?meter=count&customer=acme&{years}&window={window}")
            assert status in {200, 422}, (years, window, problem)


async def test_percentiles_are_those_asked_for(client: Client, made: Books) -> None:
    await made.subscribe("acme", MAY)
    await of_met_latest(made, "percentile", percent=90)
    await made.count(
        [replace(call(n, "acme", MAY + timedelta(minutes=n), "ann"), amount=Decimal(n + 1)) for n in range(20)]
    )
    asked = "/v1/usage?meter=latest&customer=acme&from=2026-05-01T00:00:00Z&to=2026-05-02T00:00:00Z"
    for percent, value in (("", "18"), ("&percent=50", "10"), ("&percent=99", "20")):
        status, body = await client.get(asked + percent)
        assert (status, body["total"], body["items"][0]["value"]) == (200, value, value)
    assert (await client.get(f"{asked}&percent=42"))[0] == 422
    status, problem = await client.get("/v1/usage?meter=count&percent=90")
    assert (status, problem["code"]) == (422, "percent_unused")


async def test_a_level_is_billed_by_its_time_and_can_be_computed_again(client: Client, made: Books) -> None:
    """10 from before May on, 40 for the last 10 of June's 30 days: 10 in May, 20 in June."""
    await of_met_latest(made, "weighted_sum")
    async with transaction(made.engine) as conn:
        price = PlanPrice(
            id="pri_level",
            key="level",
            currency="EUR",
            price=PerUnitPrice(unit_amount=Decimal(2)),
            meter_id="met_latest",
        )
        await conn.execute(
            text(
                "INSERT INTO prices (tenant, environment, id, plan_version_id, position, key, name, meter_id, definition,"
                " created_at) VALUES (:tenant, :environment, 'pri_level', 'plv_1', 9, 'level', '', 'met_latest',"
                " CAST(:definition AS jsonb), now())"
            ),
            {"tenant": TENANT, "environment": ENVIRONMENT, "definition": msgspec.json.encode(price).decode()},
        )
    subscription = await made.subscribe("acme", MAY)
    await made.subscribe("bolt", MAY)
    levels = [(MAY - timedelta(days=40), 10), (JUNE + timedelta(days=20), 40), (JULY, 1000)]
    await made.count(
        [replace(call(n, "acme-old", at, "ann"), amount=Decimal(level)) for n, (at, level) in enumerate(levels)]
    )
    activities, run = made.activities(), ActivityEnvironment().run
    cutoff = (await run(activities.take_cutoff)).cutoff
    assert cutoff is not None
    page = await run(activities.find_due, DueQuestion(cutoff=cutoff))
    closed = await run(activities.close_batch, ClosingBatch(cutoff=cutoff, periods=page.periods))
    assert (closed.billed, closed.stopped) == (4, ())
    invoices = await made.invoices(subscription)
    lines = [next(line for line in one.lines if line.price_key == "level") for one in invoices]
    assert [(line.quantity, line.amount) for line in lines] == [
        (Decimal(10), Decimal("20.00")),
        (Decimal(20), Decimal("40.00")),
    ]
    none = [line for one in await made.invoices("sub_bolt") for line in one.lines if line.price_key == "level"]
    assert [line.amount for line in none] == [Decimal(0)] * 2
    status, again = await client.get(f"/v1/invoices/{invoices[1].id}/recompute")
    assert (status, again["same"]) == (200, True)
    _, usage = await client.get(
        "/v1/usage?meter=latest&customer=acme&from=2026-06-01T00:00:00Z&to=2026-07-01T00:00:00Z&window=week"
    )
    assert (usage["total"], usage["items"][0]["value"], usage["items"][-1]["value"]) == ("20", "10", "40")


async def of_met_latest(made: Books, aggregation: str, **fields: Any) -> None:
    """Ask the stored matches of the meter `latest`, which are numbers, for another aggregation."""
    change = msgspec.json.encode({"aggregation": aggregation, **fields}).decode()
    async with transaction(made.engine) as conn:
        await conn.execute(
            text("UPDATE meters SET definition = definition || CAST(:change AS jsonb) WHERE id = 'met_latest'"),
            {"change": change},
        )
