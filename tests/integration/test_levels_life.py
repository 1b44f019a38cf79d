"""A level in a changed subscription is billed for the share of each period in which it is held and charged."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest_asyncio
from msgspec.structs import replace
from sqlalchemy import text

from stores.postgres.engine import transaction
from tests.support.closing import Books, books, call
from tests.support.life_api import LifeApi, life_api

JUNE, JULY, AUGUST = (datetime(2026, month, 1, tzinfo=UTC) for month in (6, 7, 8))
STORED = {
    "key": "stored",
    "currency": "EUR",
    "prices": [{"key": "space", "meter": "latest", "price": {"model": "per_unit", "unit_amount": "1"}}],
}


@pytest_asyncio.fixture
async def api(postgres_url: str, clickhouse_url: str) -> AsyncIterator[LifeApi]:
    """The stored matches of the meter `latest`, which are numbers, are asked for their level."""
    async with books(postgres_url, clickhouse_url, "levels_life", as_of=AUGUST + timedelta(days=9)) as made:
        async with transaction(made.engine) as conn:
            change = 'definition || \'{"aggregation": "weighted_sum"}\''
            await conn.execute(text(f"UPDATE meters SET definition = {change} WHERE id = 'met_latest'"))
        api = await life_api(made)
        assert (await api.call("POST", "/v1/plans", STORED)).status == 201
        yield api


async def levels(made: Books, *set_: tuple[datetime, int]) -> None:
    await made.count([replace(call(n, "acme", at, "ann"), amount=Decimal(level)) for n, (at, level) in enumerate(set_)])


async def quantities(api: LifeApi, subscription_id: str) -> list[Decimal]:
    """Of the lines of all invoices, each of which is checked against its recomputation and its explanation."""
    found = await api.made.invoices(subscription_id)
    for invoice in found:
        assert (await api.get(f"/invoices/{invoice.id}/recompute")).body["same"] is True
        told = (await api.get(f"/invoices/{invoice.id}/explain")).body["lines"]
        assert all(line["usage"]["same"] for line in told if line["kind"] == "usage"), told
    return [line.quantity for invoice in found for line in invoice.lines if line.price_key == "space"]


async def test_a_level_counts_for_nothing_in_a_pause_and_goes_on_as_it_was_set_in_it(api: LifeApi) -> None:
    """31 for 10 days of July, then 62 for the last 11 of its 31 days: (310 + 682) / 31."""
    made = api.made
    await made.subscribe("acme", AUGUST)
    made.clock.at = JULY
    subscription_id = (await api.post("", {"customer": "acme", "plan": "stored"})).body["id"]
    await levels(made, (JUNE, 31), (datetime(2026, 7, 16, tzinfo=UTC), 62))
    made.clock.at = datetime(2026, 7, 11, tzinfo=UTC)
    assert (await api.post(f"/{subscription_id}/pause")).status == 200
    made.clock.at = datetime(2026, 7, 21, tzinfo=UTC)
    assert (await api.post(f"/{subscription_id}/resume")).status == 200
    made.clock.at = AUGUST + timedelta(days=1)
    await api.close()
    assert await quantities(api, subscription_id) == [32]


async def test_a_level_is_billed_by_each_plan_for_its_part_of_the_period(api: LifeApi) -> None:
    """31 all along: 10 of 31 days by the second plan, of which the first bills nothing for storage."""
    made = api.made
    subscription_id = await made.subscribe("acme", JULY)
    await levels(made, (JUNE, 31))
    made.clock.at = datetime(2026, 7, 22, tzinfo=UTC)
    assert (await api.post(f"/{subscription_id}/change", {"plan": "stored"})).status == 200
    made.clock.at = AUGUST + timedelta(days=1)
    await api.close()
    assert await quantities(api, subscription_id) == [10]
