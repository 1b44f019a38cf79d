"""A line of a subscription that was paused and changed leads to what was counted, and to nothing of the pause."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest_asyncio

from tests.support.closing import Books, books, call
from tests.support.life_api import LifeApi, life_api

D = Decimal
JULY, AUGUST = (datetime(2026, month, 1, tzinfo=UTC) for month in (7, 8))
DAY = timedelta(days=1)


@pytest_asyncio.fixture
async def made(postgres_url: str, clickhouse_url: str) -> AsyncIterator[Books]:
    async with books(postgres_url, clickhouse_url, "invoice_explain_life", as_of=AUGUST + 9 * DAY) as found:
        yield found


@pytest_asyncio.fixture
async def api(made: Books) -> LifeApi:
    return await life_api(made)


async def explained(api: LifeApi, subscription_id: str) -> dict[str, Any]:
    [invoice] = await api.made.invoices(subscription_id)
    told = await api.get(f"/invoices/{invoice.id}/explain")
    assert told.status == 200, told.body
    assert sum(D(line["amount"]) for line in told.body["lines"]) == D(told.body["subtotal"])
    return {line["description"]: line for line in told.body["lines"]}


async def test_windows_and_events_leave_out_a_pause(api: LifeApi, made: Books) -> None:
    subscription_id = await made.subscribe("acme", JULY)
    pause, resume = JULY + 10 * DAY + timedelta(seconds=30), JULY + 20 * DAY + timedelta(hours=5)
    second = timedelta(seconds=1)
    times = [JULY, pause - second, pause, resume - second, resume, AUGUST - second]
    await made.count([call(n, "acme", at, f"user-{n % 2}") for n, at in enumerate(times)])
    made.clock.at = JULY + DAY
    body = {"when": pause.isoformat(), "resumes_at": resume.isoformat()}
    assert (await api.post(f"/{subscription_id}/pause", body)).status == 200
    made.clock.at = AUGUST + DAY
    await api.close()
    lines = await explained(api, subscription_id)
    calls, users = lines["calls"]["usage"], lines["users"]["usage"]
    assert (lines["calls"]["quantity"], calls["total"], calls["same"]) == ("4", "4", True)
    assert sum(D(window["value"]) for window in calls["windows"]) == 4
    edges = [(window["start"], window["end"]) for window in calls["windows"]]
    assert ("2026-07-11T00:00:00Z", "2026-07-11T00:00:30Z") in edges
    assert ("2026-07-21T05:00:00Z", "2026-07-22T00:00:00Z") in edges
    # Each user was there on both sides of the pause, and is one user.
    assert (lines["users"]["quantity"], users["total"], users["same"]) == ("2", "2", True)
    billed = (await api.call("GET", calls["events"])).body["items"]
    assert [event["id"] for event in billed] == ["call-5", "call-4", "call-1", "call-0"]
    away = f"{calls['events'].partition('?')[0]}?from=2026-07-12T00:00:00Z&to=2026-07-20T00:00:00Z"
    assert (await api.call("GET", away)).body["code"] == "range_empty"
