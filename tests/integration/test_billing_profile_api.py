"""`/v1/billing-profile`, and what customers and invoices take of it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest_asyncio
from sqlalchemy import text

from api.app import Api
from stores.postgres.engine import transaction
from tests.support.closing import NOW, Books, books
from tests.support.invoices_http import api_of, close_all, get, key, send
from tests.support.usage_events import TENANT

JUNE = datetime(2026, 6, 1, tzinfo=UTC)
PROFILE = {
    "name": "Nordlicht GmbH",
    "address": ["Speicherstraße 14", "20457 Hamburg"],
    "email": "billing@nordlicht.example",
    "tax_id": "DE301554871",
    "payment": ["IBAN DE02 1203 0000 0000 2020 51"],
    "footer": "HRB 154 881",
    "invoice_number_format": "{year}-{number:05d}",
    "timezone": "Europe/Berlin",
}
PATH = "/v1/billing-profile"


@pytest_asyncio.fixture
async def made(postgres_url: str, clickhouse_url: str) -> AsyncIterator[Books]:
    async with books(postgres_url, clickhouse_url, "billing_profile_api") as found:
        yield found


@pytest_asyncio.fixture
async def app(made: Books) -> Api:
    return api_of(made)


async def test_a_profile_is_put_whole_and_read_again(app: Api, made: Books) -> None:
    headers = await key(made, "*")
    status, before = await get(app, PATH, headers)
    assert (status, before["name"], before["revision"]) == (200, TENANT, 0)
    assert before["invoice_number_format"] == "INV-{number:06d}"
    status, sent, body = await send(app, "PUT", PATH, headers, PROFILE)
    assert (status, sent["etag"], body) == (200, '"1"', {**PROFILE, "revision": 1})
    assert await get(app, PATH, headers) == (200, body)
    _, _, less = await send(app, "PUT", PATH, headers, {"name": "Other"})
    assert (less["name"], less["address"], less["email"], less["revision"]) == ("Other", [], None, 2)


async def test_of_two_that_change_it_from_one_revision_one_is_told(app: Api, made: Books) -> None:
    headers = {**await key(made, "*"), "if-match": '"0"'}
    names = [f"Seller {number}" for number in range(6)]
    answers = await asyncio.gather(*(send(app, "PUT", PATH, headers, {"name": name}) for name in names))
    assert sorted(status for status, _, _ in answers) == [200, 412, 412, 412, 412, 412]
    [won] = [body for status, _, body in answers if status == 200]
    assert await get(app, PATH, await key(made, "*")) == (200, won)


async def test_a_profile_needs_its_scopes_and_is_of_one_tenant(app: Api, made: Books) -> None:
    reader = await key(made, "invoices:read")
    assert (await send(app, "PUT", PATH, reader, PROFILE))[0] == 403
    await send(app, "PUT", PATH, await key(made, "admin"), PROFILE)
    assert (await get(app, PATH, reader))[1]["name"] == PROFILE["name"]
    assert (await get(app, PATH, await key(made, "*", tenant="another")))[1]["name"] == "another"


async def test_what_is_wrong_with_a_profile_is_said_and_changes_nothing(app: Api, made: Books) -> None:
    headers = await key(made, "*")
    for change, code in (
        ({"name": " "}, "invalid_request"),
        ({"name": None}, "invalid_request"),
        ({"email": "nobody"}, "email_malformed"),
        ({"invoice_number_format": "{number}-{year}"}, "number_format_malformed"),
        ({"timezone": "Mars/Olympus"}, "unknown_timezone"),
        ({"address": ["x"] * 11}, "invalid_request"),
        ({"footer": "\x00"}, "nul_character"),
        ({"colour": "red"}, "unknown_field"),
    ):
        status, _, problem = await send(app, "PUT", PATH, headers, {**PROFILE, **change})
        assert (status, problem["code"]) == (422, code), change
    assert (await get(app, PATH, headers))[1]["revision"] == 0


async def test_numbers_follow_the_format_without_a_gap_or_a_new_beginning(app: Api, made: Books) -> None:
    headers = await key(made, "*")
    await made.subscribe("first", JUNE)
    await close_all(made)
    await send(app, "PUT", PATH, headers, PROFILE)
    await made.subscribe("second", JUNE)
    await close_all(made)
    await send(app, "PUT", PATH, headers, {"name": "Us"})
    await made.subscribe("third", JUNE)
    await close_all(made)
    numbers = [one["number"] for one in (await get(app, "/v1/invoices", headers))[1]["items"]]
    assert sorted(numbers) == sorted(["INV-000001", f"{NOW.year}-00002", "INV-000003"])
    status, found = await get(app, f"/v1/invoices/{NOW.year}-00002", headers)
    assert (status, found["subscription_id"]) == (200, "sub_second")


async def test_a_customer_has_an_address_a_mail_and_a_tax_number(app: Api, made: Books) -> None:
    headers = await key(made, "*")
    contact: dict[str, Any] = {"address": ["Street 1", "Town"], "email": "pay@acme.example", "tax_id": "CHE-1"}
    status, _, created = await send(app, "POST", "/v1/customers", headers, {"external_id": "acme", **contact})
    assert status == 201
    assert {name: created[name] for name in contact} == contact
    change = {"address": ["Street 2"], "email": None}
    _, _, changed = await send(app, "PATCH", "/v1/customers/acme", headers, change)
    assert {name: changed[name] for name in contact} == {**contact, **change}
    assert (await get(app, "/v1/customers/acme", headers))[1] == changed
    status, _, plain = await send(app, "POST", "/v1/customers", headers, {"external_id": "bolt"})
    assert (status, plain["address"], plain["email"], plain["tax_id"]) == (201, [], None, None)
    status, _, problem = await send(app, "PATCH", "/v1/customers/acme", headers, {"email": "nobody"})
    assert (status, problem["code"], problem["errors"][0]["pointer"]) == (422, "email_malformed", "/email")


async def test_an_invoice_keeps_who_it_was_from_and_to(app: Api, made: Books) -> None:
    headers = await key(made, "*")
    await send(app, "PUT", PATH, headers, PROFILE)
    await made.subscribe("acme", JUNE)
    await send(app, "PATCH", "/v1/customers/acme", headers, {"address": ["Street 1"], "tax_id": "CHE-1"})
    await close_all(made)
    async with transaction(made.engine) as conn:
        kept = (await conn.execute(text("SELECT parties FROM invoices"))).scalar_one()
    seller = {name: PROFILE[name] for name in ("name", "address", "email", "tax_id", "payment", "footer")}
    customer = {"name": "acme", "address": ["Street 1"], "tax_id": "CHE-1"}
    assert kept == {"seller": seller, "customer": customer, "timezone": "UTC", "plan": "Standard, version 1"}
