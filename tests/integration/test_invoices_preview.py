"""`POST /v1/invoices/preview`: the running period as it would be billed, and nothing of it kept."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import perf_counter
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace
from sqlalchemy import text

from schemas.closing import ClosingBatch, DueQuestion
from schemas.plans import Plan
from schemas.prices import GraduatedPrice, PackagePrice, PerUnitPrice, PlanPrice, Tier
from stores.postgres.engine import transaction
from stores.postgres.plans import create_plan
from tests.support.closing import NOW, SCOPE, Books, books, call, ledger, one_event, plan
from tests.support.closing_api import BooksApi
from tests.support.usage_events import METERS, TOPIC

JUNE, JULY, AUGUST = (datetime(2026, month, 1, tzinfo=UTC) for month in (6, 7, 8))
PREVIEW = "/v1/invoices/preview"


@pytest_asyncio.fixture
async def made(postgres_url: str, clickhouse_url: str) -> AsyncIterator[Books]:
    async with books(postgres_url, clickhouse_url, "invoices_preview") as found:
        yield found


@pytest_asyncio.fixture
async def api(made: Books) -> BooksApi:
    return BooksApi(made)


def told(lines: Any) -> list[tuple[str, str, str]]:
    return [(line["price_key"], line["quantity"], line["amount"]) for line in lines]


async def close(made: Books) -> None:
    activities = made.activities()
    taken = (await activities.take_cutoff()).cutoff
    assert taken is not None
    page = await activities.find_due(DueQuestion(cutoff=taken))
    await activities.close_batch(ClosingBatch(cutoff=taken, periods=page.periods))


async def test_the_running_period_is_shown_as_it_is_billed_later(api: BooksApi, made: Books) -> None:
    await made.subscribe("acme", JULY)
    at = JULY + timedelta(days=2)
    await made.count([call(1, "acme", at, "ann"), call(2, "acme-old", at, "bob"), call(3, "acme", JUNE, "bob")])
    status, body = await api.send("POST", PREVIEW, {"subscription": "sub_acme"})
    assert status == 200, body
    assert told(body["lines"]) == [("fee", "1", "31.00"), ("calls", "2", "0.50"), ("users", "2", "2.00")]
    assert body["lines"][1]["steps"][0]["unit_amount"] == "0.25"
    assert (body["total"], body["amount_due"], body["currency"]) == ("33.50", "33.50", "EUR")
    assert (body["period_start"], body["period_end"]) == ("2026-07-01T00:00:00Z", "2026-08-01T00:00:00Z")
    assert (body["cut"], body["as_of"]) == (2, NOW.isoformat().replace("+00:00", "Z"))
    assert await made.invoices() == []
    by_customer = await api.send("POST", PREVIEW, {"customer": "acme"})
    assert by_customer == (status, body)
    made.clock.at = AUGUST + timedelta(days=1)
    async with transaction(made.engine) as conn:
        await conn.execute(text("UPDATE ledger_partitions SET idle_as_of = :at"), {"at": made.clock.at})
    await close(made)
    [invoice] = await made.invoices()
    assert [(line.price_key, str(line.quantity), str(line.amount)) for line in invoice.lines] == told(body["lines"])


async def test_what_was_counted_after_the_newest_cut_waits_for_the_next_one(api: BooksApi, made: Books) -> None:
    await made.subscribe("acme", JULY)
    _, first = await api.send("POST", PREVIEW, {"customer": "acme"})
    await made.count([call(1, "acme", JULY, "ann", cut=first["cut"])])
    _, same = await api.send("POST", PREVIEW, {"customer": "acme"})
    assert (same["cut"], same["lines"][1]["quantity"]) == (first["cut"], "0")
    made.clock.at = NOW + timedelta(minutes=2)
    _, later = await api.send("POST", PREVIEW, {"customer": "acme"})
    assert (later["cut"], later["lines"][1]["quantity"]) == (first["cut"] + 1, "1")


async def test_a_block_that_is_still_open_is_not_waited_for(api: BooksApi, made: Books) -> None:
    await made.subscribe("acme", JULY)
    steps = ledger(made)
    epoch = (await steps.take_over(TOPIC, 0, 1)).epoch
    intent = one_event(JULY, NOW)
    await steps.write_intent(epoch, intent, 30)
    status, body = await api.send("POST", PREVIEW, {"customer": "acme"})
    assert (status, body["cut"]) == (200, 1)


async def test_an_ended_subscription_shows_its_last_period_until_that_is_billed(api: BooksApi, made: Books) -> None:
    await made.subscribe("acme", JUNE)
    async with transaction(made.engine) as conn:
        await conn.execute(text("UPDATE subscriptions SET end_at = :at, next_close_at = :at"), {"at": JULY})
    _, body = await api.send("POST", PREVIEW, {"subscription": "sub_acme"})
    assert body["period_end"] == "2026-07-01T00:00:00Z"
    await close(made)
    status, refused = await api.send("POST", PREVIEW, {"subscription": "sub_acme"})
    assert (status, refused["code"]) == (409, "nothing_to_bill")


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({}, 422, "subscription_or_customer"),
        ({"subscription": "sub_acme", "customer": "acme"}, 422, "subscription_or_customer"),
        ({"subscription": "sub_nobody"}, 404, "subscription_not_found"),
        ({"customer": "nobody"}, 404, "customer_not_found"),
        ({"customer": "acme"}, 409, "subscription_ambiguous"),
        ({"subscription": 7}, 422, "invalid_request"),
    ],
)
async def test_what_cannot_be_shown_is_refused(
    api: BooksApi, made: Books, asked: dict[str, Any], status: int, code: str
) -> None:
    await made.subscribe("acme", JUNE)
    async with transaction(made.engine) as conn:
        await conn.execute(
            text(
                "INSERT INTO subscriptions (id, tenant, environment, customer_id, plan_version_id, status, billing,"
                " timezone, start_at, anchor_at, closed_to, next_close_at) SELECT 'sub_other', tenant, environment,"
                " customer_id, plan_version_id, status, billing, timezone, start_at, anchor_at, closed_to,"
                " next_close_at FROM subscriptions"
            )
        )
    found = await api.send("POST", PREVIEW, asked)
    assert (found[0], found[1]["code"]) == (status, code)
    other = await api.send("POST", PREVIEW, {"subscription": "sub_acme"}, tenant="another")
    assert (other[0], other[1]["code"]) == (404, "subscription_not_found")


def wide() -> Plan:
    models = (
        PerUnitPrice(unit_amount=Decimal("0.01")),
        PackagePrice(amount=Decimal(2), package_size=Decimal(10)),
        GraduatedPrice(tiers=(Tier(up_to=Decimal(5)), Tier(unit_amount=Decimal("0.1")))),
    )
    prices = tuple(
        PlanPrice(
            id=f"pri_wide_{number}",
            key=f"wide-{number}",
            currency="EUR",
            price=models[number % 3],
            meter_id=METERS[number % len(METERS)].id,
        )
        for number in range(20)
    )
    return replace(plan(), id="pla_2", key="wide", version_id="plv_2", prices=prices)


async def test_twenty_lines_are_there_in_a_tenth_of_a_second(api: BooksApi, made: Books) -> None:
    async with transaction(made.engine) as conn:
        await create_plan(conn, SCOPE, wide())
    await made.subscribe("acme", JULY)
    async with transaction(made.engine) as conn:
        await conn.execute(text("UPDATE subscriptions SET plan_version_id = 'plv_2'"))
    await made.count([call(n, "acme", JULY + timedelta(minutes=7 * n), f"user-{n % 9}") for n in range(30)])
    took = []
    for _ in range(5):
        began = perf_counter()
        status, body = await api.send("POST", PREVIEW, {"customer": "acme"})
        took.append(perf_counter() - began)
        assert (status, len(body["lines"])) == (200, 20)
    # The target is 0.1 s (bench); on a busy machine a test only sees that it is no matter of seconds.
    assert min(took) < 0.5
