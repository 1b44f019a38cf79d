"""Documents of invoices that a closing made: what is printed stays as it was."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest_asyncio
from pypdf import PdfReader

from api.app import Api
from tests.support.closing import Books, books, call
from tests.support.invoices_http import api_of, close_all, fetch, get, key, send

JUNE = datetime(2026, 6, 1, tzinfo=UTC)
PROFILE = {"name": "Nordlicht GmbH", "address": ["Hamburg"], "tax_id": "DE301554871", "payment": ["IBAN DE02"]}
CUSTOMER = {"name": "Ångström & Fils", "address": ["12, rue de l'Étoile", "Lausanne"], "tax_id": "CHE-114"}


@pytest_asyncio.fixture
async def made(postgres_url: str, clickhouse_url: str) -> AsyncIterator[Books]:
    async with books(postgres_url, clickhouse_url, "invoice_documents_api") as found:
        await found.subscribe("acme", JUNE)
        await found.count([call(number, "acme", JUNE, "ann") for number in range(7)])
        app, headers = api_of(found), await key(found, "*")
        await send(app, "PUT", "/v1/billing-profile", headers, PROFILE)
        await send(app, "PATCH", "/v1/customers/acme", headers, CUSTOMER)
        await close_all(found)
        yield found


@pytest_asyncio.fixture
async def app(made: Books) -> Api:
    return api_of(made)


def text_of(pdf: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages)


async def test_a_pdf_is_named_by_the_number_and_says_who_sold_what_to_whom(app: Api, made: Books) -> None:
    headers = await key(made, "invoices:read")
    status, sent, pdf = await fetch(app, "/v1/invoices/INV-000001/pdf", headers)
    assert (status, sent["content-type"]) == (200, "application/pdf")
    assert sent["content-disposition"] == 'inline; filename="INV-000001.pdf"'
    shown = text_of(pdf)
    for part in ("INV-000001", "Nordlicht GmbH", "Tax ID DE301554871", "Ångström & Fils", "Lausanne", "IBAN DE02"):
        assert part in shown, part
    assert "EUR\xa033.75" in shown or "EUR 33.75" in shown  # 31.00, 7 calls at 0.25, one user at 1.00
    assert "Standard, version 1" in shown


async def test_what_was_printed_is_printed_again_byte_for_byte_whoever_sells_and_buys_by_then(
    app: Api, made: Books
) -> None:
    headers = await key(made, "*")
    paths = [f"/v1/invoices/INV-000001/{kind}" for kind in ("pdf", "html", "csv")]
    before = [(await fetch(app, path, headers))[2] for path in paths]
    await send(app, "PUT", "/v1/billing-profile", headers, {"name": "Somebody else"})
    await send(
        app, "PATCH", "/v1/customers/acme", headers, {"name": "New name", "address": [], "timezone": "Asia/Tokyo"}
    )
    assert [(await fetch(app, path, headers))[2] for path in paths] == before


async def test_an_invoice_is_answered_as_what_is_accepted(app: Api, made: Books) -> None:
    headers = await key(made, "invoices:read")
    path = "/v1/invoices/INV-000001"
    _, plain = await get(app, path, headers)
    for accepted, kind in (("application/pdf", "pdf"), ("text/html", "html"), ("text/csv", "csv")):
        status, sent, body = await fetch(app, path, {**headers, "accept": accepted})
        assert (status, sent["content-type"].partition(";")[0], sent["vary"]) == (200, accepted, "Accept")
        assert body == (await fetch(app, f"{path}/{kind}", headers))[2]
    for accepted in ("*/*", "application/json", "text/html;q=0.5, application/json"):
        assert await get(app, path, {**headers, "accept": accepted}) == (200, plain)


async def test_the_page_may_run_nothing_and_the_rows_sum_to_the_total(app: Api, made: Books) -> None:
    headers = await key(made, "invoices:read")
    _, sent, page = await fetch(app, "/v1/invoices/INV-000001/html", headers)
    assert sent["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'"
    assert sent["x-content-type-options"] == "nosniff"
    assert "Ångström &amp; Fils" in page.decode()
    _, _, table = await fetch(app, "/v1/invoices/INV-000001/csv", headers)
    rows = list(csv.DictReader(io.StringIO(table.decode(), newline="")))
    assert sum(Decimal(row["amount"]) for row in rows) == Decimal("33.75")


async def test_documents_need_their_scope_and_are_of_one_tenant(app: Api, made: Books) -> None:
    for kind in ("pdf", "html", "csv"):
        path = f"/v1/invoices/INV-000001/{kind}"
        assert (await get(app, path, await key(made, "usage:read")))[0] == 403
        status, problem = await get(app, path, await key(made, "*", tenant="another"))
        assert (status, problem["code"]) == (404, "invoice_not_found")
