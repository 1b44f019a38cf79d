"""`/v1/invoices` on invoices that a closing made."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest_asyncio
from sqlalchemy import text
from temporalio.testing import ActivityEnvironment

from api.app import Api, create_app
from api.auth import Authenticator
from api.deps import ApiDeps
from api.limits_view import LimitsView
from runtime.clock import SystemClock
from runtime.settings import Settings
from schemas.closing import ClosingBatch, DueQuestion
from stores.kafka import Producer
from stores.postgres.engine import transaction
from stores.postgres.keys import ApiKeys
from tests.support.asgi import request
from tests.support.closing import Books, books, call
from tests.support.usage_events import ENVIRONMENT, TENANT

MAY, JUNE = (datetime(2026, month, 1, tzinfo=UTC) for month in (5, 6))


@pytest_asyncio.fixture
async def made(postgres_url: str, clickhouse_url: str) -> AsyncIterator[Books]:
    async with books(postgres_url, clickhouse_url, "invoices_api") as found:
        await found.subscribe("acme", MAY)
        await found.subscribe("bolt", JUNE)
        await found.count([call(1, "acme", JUNE, "ann")])
        activities, run = found.activities(), ActivityEnvironment().run
        cutoff = (await run(activities.take_cutoff)).cutoff
        assert cutoff is not None
        page = await run(activities.find_due, DueQuestion(cutoff=cutoff))
        await run(activities.close_batch, ClosingBatch(cutoff=cutoff, periods=page.periods))
        yield found


@pytest_asyncio.fixture
async def app(made: Books) -> Api:
    settings = Settings()
    keys = ApiKeys(made.engine, SystemClock(), made.ids)
    return create_app(
        ApiDeps(
            settings=settings,
            clock=SystemClock(),
            ids=made.ids,
            engine=made.engine,
            producer=Producer(settings.kafka),
            auth=Authenticator(keys, 2.0, asyncio.get_running_loop().time),
            limits=LimitsView(settings.kafka),
            stopping=asyncio.Event(),
        )
    )


async def key(made: Books, *scopes: str, tenant: str = TENANT) -> dict[str, str]:
    _, secret = await ApiKeys(made.engine, SystemClock(), made.ids).create(tenant, ENVIRONMENT, scopes)
    return {"authorization": f"Bearer {secret.reveal()}"}


async def get(app: Api, url: str, headers: dict[str, str]) -> tuple[int, Any]:
    async with request(app, "GET", url, headers) as answer:
        return answer.status, await answer.json()


async def test_invoices_are_listed_with_lines_by_customer_and_page(app: Api, made: Books) -> None:
    headers = await key(made, "invoices:read")
    status, everything = await get(app, "/v1/invoices", headers)
    assert (status, len(everything["items"]), everything["next_cursor"]) == (200, 3, None)
    _, first = await get(app, "/v1/invoices?limit=2", headers)
    _, second = await get(app, f"/v1/invoices?limit=2&cursor={first['next_cursor']}", headers)
    assert first["items"] + second["items"] == everything["items"]
    _, of_acme = await get(app, "/v1/invoices?customer=acme-old", headers)
    assert {one["subscription_id"] for one in of_acme["items"]} == {"sub_acme"}
    _, of_bolt = await get(app, "/v1/invoices?subscription=sub_bolt", headers)
    assert [one["customer_id"] for one in of_bolt["items"]] == ["cus_bolt"]
    june = next(one for one in of_acme["items"] if one["period_start"] == "2026-06-01T00:00:00Z")
    assert (june["state"], june["total"], june["currency"]) == ("open", "32.25", "EUR")
    calls = next(line for line in june["lines"] if line["price_key"] == "calls")
    assert (calls["quantity"], calls["amount"], calls["exact_amount"]) == ("1", "0.25", "0.25")
    assert calls["steps"][0]["amount"] == "0.25"
    assert await get(app, f"/v1/invoices/{june['number']}", headers) == (200, june)
    assert await get(app, f"/v1/invoices/{june['id']}", headers) == (200, june)


async def test_invoices_need_their_scope_and_are_of_one_tenant(app: Api, made: Books) -> None:
    assert (await get(app, "/v1/invoices", await key(made, "usage:read")))[0] == 403
    other = await key(made, "*", tenant="another")
    assert await get(app, "/v1/invoices", other) == (200, {"items": [], "next_cursor": None})
    status, problem = await get(app, "/v1/invoices/INV-000001", other)
    assert (status, problem["code"]) == (404, "invoice_not_found")


async def test_a_line_says_which_generation_of_its_meter_was_billed(made: Books) -> None:
    async with transaction(made.engine) as conn:
        found = await conn.execute(text("SELECT DISTINCT price_key, generation FROM invoice_lines ORDER BY 1"))
        assert [tuple(row) for row in found] == [("calls", 1), ("fee", None), ("users", 1)]
