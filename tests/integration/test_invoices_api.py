"""`/v1/invoices` on invoices that a closing made."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest_asyncio
from msgspec.structs import replace
from sqlalchemy import text

from api.app import Api
from stores.postgres.customers import change_customer, get_customer
from stores.postgres.engine import transaction
from tests.support.closing import SCOPE, Books, books, call
from tests.support.invoices_http import api_of, close_all, get, key

MAY, JUNE = (datetime(2026, month, 1, tzinfo=UTC) for month in (5, 6))


@pytest_asyncio.fixture
async def made(postgres_url: str, clickhouse_url: str) -> AsyncIterator[Books]:
    async with books(postgres_url, clickhouse_url, "invoices_api") as found:
        await found.subscribe("acme", MAY)
        await found.subscribe("bolt", JUNE)
        await found.count([call(1, "acme", JUNE, "ann")])
        await close_all(found)
        yield found


@pytest_asyncio.fixture
async def app(made: Books) -> Api:
    return api_of(made)


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


async def test_an_invoice_comes_to_the_same_cent_whatever_arrives_later(app: Api, made: Books) -> None:
    headers = await key(made, "invoices:read", "usage:read")
    [june] = [one for one in await made.invoices("sub_acme") if one.period_start == JUNE]
    usage = "/v1/usage?meter=count&customer=acme&from=2026-06-01T00:00:00Z&to=2026-07-01T00:00:00Z"
    # Late events of the period, and old events of a name that becomes the customer's only now.
    late = [call(number, "acme", JUNE, f"late-{number}", cut=june.cut) for number in range(2, 6)]
    await made.count([*late, call(9, "renamed", JUNE, "zoe", cut=june.cut - 1)])
    async with transaction(made.engine) as conn:
        acme = await get_customer(conn, SCOPE, "acme")
        await change_customer(conn, SCOPE, replace(acme, aliases=(*acme.aliases, "renamed")))
    _, now = await get(app, usage, headers)
    _, then = await get(app, f"{usage}&at={june.cut}", headers)
    assert (now["total"], then["total"]) == ("6", "2")
    status, body = await get(app, f"/v1/invoices/{june.number}/recompute", headers)
    assert (status, body["same"], body["cut"]) == (200, True, june.cut), body
    assert body["total"] == {"billed": "32.25", "windows": "32.25", "events": "32.25"}
    lines = {line["price_key"]: line for line in body["lines"]}
    one = {"quantity": "1", "exact_amount": "0.25", "amount": "0.25"}
    calls = lines["calls"]
    assert (calls["billed"], calls["windows"], calls["events"], calls["same"]) == (one, one, one, True)
    for invoice in await made.invoices():
        _, body = await get(app, f"/v1/invoices/{invoice.id}/recompute", headers)
        assert body["same"] is True, body


async def test_a_recomputation_shows_which_source_no_longer_says_what_was_billed(app: Api, made: Books) -> None:
    headers = await key(made, "invoices:read")
    [june] = [one for one in await made.invoices("sub_acme") if one.period_start == JUNE]
    await made.clickhouse.command(
        f"ALTER TABLE {made.clickhouse.reads('usage_windows')} DELETE WHERE customer = 'acme' SETTINGS mutations_sync = 2"
    )
    _, body = await get(app, f"/v1/invoices/{june.id}/recompute", headers)
    assert body["same"] is False
    assert body["total"] == {"billed": "32.25", "windows": "31.00", "events": "32.25"}
    assert [line["price_key"] for line in body["lines"] if not line["same"]] == ["calls", "users"]
    status, body = await get(app, "/v1/invoices/INV-009999/recompute", headers)
    assert (status, body["code"]) == (404, "invoice_not_found")
