"""An invoice that a closing made leads from its total down to each event, whatever came after its cut."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest_asyncio
from msgspec.structs import replace

from api.app import Api
from domain.aggregates import value
from stores.postgres.customers import change_customer, get_customer
from stores.postgres.engine import transaction
from tests.support.closing import SCOPE, Books, books, call
from tests.support.invoices_http import api_of, close_all, get, key, send
from tests.support.usage_events import METERS, TestEvent, folded, random_events

D = Decimal
# Midnight in Berlin, so that the days of the invoice are not those of UTC.
MAY, JUNE, JULY = (datetime(2026, month, day, 22, tzinfo=UTC) for month, day in ((4, 30), (5, 31), (6, 30)))
HOUR = timedelta(hours=1)


def june_calls() -> list[TestEvent]:
    """Forty calls over June by two names, in pairs, each user twice."""
    return [
        call(number, "acme" if number % 3 else "acme-old", JUNE + number * 17 * HOUR, f"user-{number // 2}")
        for number in range(40)
    ]


@pytest_asyncio.fixture
async def made(postgres_url: str, clickhouse_url: str) -> AsyncIterator[Books]:
    async with books(postgres_url, clickhouse_url, "invoice_explain_api") as found:
        await found.subscribe("acme", MAY, zone="Europe/Berlin")
        await found.count(june_calls())
        await close_all(found)
        # Afterwards: late events, and a customer that goes by other names.
        await found.count([call(100, "acme", JUNE + HOUR, "late", cut=50), call(101, "renamed", JUNE, "new", cut=50)])
        async with transaction(found.engine) as conn:
            acme = await get_customer(conn, SCOPE, "acme")
            await change_customer(conn, SCOPE, replace(acme, aliases=("renamed",)))
        yield found


@pytest_asyncio.fixture
async def app(made: Books) -> Api:
    return api_of(made)


async def explained(app: Api, made: Books, question: str = "") -> dict[str, Any]:
    [june] = [one for one in await made.invoices() if one.period_start == JUNE]
    headers = await key(made, "invoices:read")
    status, body = await get(app, f"/v1/invoices/{june.number}/explain{question}", headers)
    assert status == 200, body
    return dict(body)


def line(body: dict[str, Any], key: str) -> dict[str, Any]:
    return next(one for one in body["lines"] if one["line_id"] and one["description"] == key)


async def test_lines_sum_to_the_invoice_steps_to_lines_and_windows_to_what_was_billed(app: Api, made: Books) -> None:
    body = await explained(app, made)
    assert body["timezone"] == "Europe/Berlin"
    assert body["subtotal"] == "61.00"  # 31.00, 40 calls at 0.25, 20 users at 1.00
    assert sum(D(one["amount"]) for one in body["lines"]) == D(body["subtotal"])
    for one in body["lines"]:
        assert one["steps"][-1]["sum"] == one["exact_amount"]
    calls = line(body, "calls")
    assert calls["text"] == "calls (1 – 30 Jun 2026, per unit): 40 units come to EUR 10.00"
    assert [step["text"] for step in calls["steps"]] == ["Units (first 40): 40 × 0.25 = 10.00"]
    usage = calls["usage"]
    assert (usage["window"], usage["additive"], usage["same"], usage["total"]) == ("day", True, True, "40")
    assert len(usage["windows"]) == 30
    assert sum(D(window["value"]) for window in usage["windows"]) == D(calls["quantity"]) == 40
    assert usage["windows"][0]["start"] == "2026-05-31T22:00:00Z"
    users = line(body, "users")["usage"]
    assert (users["additive"], users["same"], users["total"]) == (False, True, "20")
    assert sum(D(window["value"]) for window in users["windows"]) > 20
    assert line(body, "fee")["usage"] is None


async def test_windows_lead_to_the_events_that_were_billed_and_to_no_later_ones(app: Api, made: Books) -> None:
    body = await explained(app, made)
    headers = await key(made, "invoices:read", "usage:read")
    usage = line(body, "calls")["usage"]
    billed: list[str] = []
    for window in usage["windows"]:
        status, found = await get(app, window["events"], headers)
        assert status == 200, found
        assert len(found["items"]) == D(window["value"])
        assert all(window["start"] <= event["time"] < window["end"] for event in found["items"])
        billed += [event["id"] for event in found["items"]]
    assert sorted(billed) == sorted(event.id for event in june_calls())
    assert (found["cut"], found["as_of"], found["generation"]) == (body["cut"], body["as_of"], 1)


async def test_the_events_of_a_line_come_in_pages_newest_first_with_what_the_meter_took(app: Api, made: Books) -> None:
    body = await explained(app, made)
    headers = await key(made, "invoices:read", "usage:read")
    request = line(body, "users")["usage"]["events"]
    seen: list[dict[str, Any]] = []
    cursor = ""
    while True:
        _, page = await get(app, f"{request}&limit=15{cursor}", headers)
        seen += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert [event["id"] for event in seen] == [event.id for event in reversed(june_calls())]
    assert {event["unique_key"] for event in seen} == {event.user for event in june_calls()}
    assert seen[0]["dimensions"] == ["eu"]
    assert {event["customer"] for event in seen} == {"acme", "acme-old"}


async def test_one_line_can_be_asked_for_in_finer_windows(app: Api, made: Books) -> None:
    calls = line(await explained(app, made), "calls")["line_id"]
    body = await explained(app, made, f"?line={calls}&window=hour")
    [one] = body["lines"]
    assert len(one["usage"]["windows"]) == 720
    assert sum(D(window["value"]) for window in one["usage"]["windows"]) == 40


async def test_what_cannot_be_explained_is_said(app: Api, made: Books) -> None:
    [june] = [one for one in await made.invoices() if one.period_start == JUNE]
    lines = {one.price_key: one.id for one in june.lines}
    headers = await key(made, "*")
    whole = f"/v1/invoices/{june.id}"
    for path, status, code in (
        ("/v1/invoices/INV-009999/explain", 404, "invoice_not_found"),
        (f"{whole}/explain?line=lin_9", 404, "line_not_found"),
        (f"{whole}/explain?window=minute", 422, "too_many_windows"),
        (f"{whole}/explain?window=fortnight", 422, "window_unknown"),
        (f"{whole}/lines/lin_9/events", 404, "line_not_found"),
        (f"{whole}/lines/{lines['fee']}/events", 422, "line_not_metered"),
        (f"{whole}/lines/{lines['calls']}/events?from=2026-08-01T00:00:00Z", 422, "range_empty"),
        (f"{whole}/lines/{lines['calls']}/events?from=June", 422, "invalid_instant"),
        (f"{whole}/lines/{lines['calls']}/events?cursor=x", 422, "cursor_invalid"),
    ):
        found, problem = await get(app, path, headers)
        assert (found, problem["code"]) == (status, code), path
    events = f"{whole}/lines/{lines['calls']}/events"
    assert (await get(app, events, await key(made, "invoices:read")))[0] == 403
    assert (await get(app, events, await key(made, "*", tenant="another")))[0] == 404


async def test_every_aggregation_leads_to_what_was_billed_also_from_the_middle_of_a_minute(
    app: Api, made: Books
) -> None:
    headers = await key(made, "*")
    start, end = datetime(2026, 5, 17, 10, 20, 31, tzinfo=UTC), datetime(2026, 6, 17, 10, 20, 31, tzinfo=UTC)
    billable = [meter for meter in METERS if meter.key in ("count", "sum", "max", "unique_count")]
    prices = [
        {"key": meter.key, "meter": meter.key, "price": {"model": "per_unit", "unit_amount": "1"}} for meter in billable
    ]
    await send(app, "POST", "/v1/plans", headers, {"key": "all", "currency": "EUR", "prices": prices})
    customer = {"external_id": "bolt", "aliases": ["bolt-2"], "timezone": "America/New_York"}
    await send(app, "POST", "/v1/customers", headers, customer)
    sold = {"customer": "bolt", "plan": "all", "start_at": start.isoformat()}
    status, _, held = await send(app, "POST", "/v1/subscriptions", headers, sold)
    assert status == 201, held
    # Over more than the period on both sides, and with later cuts.
    events = random_events(Random(7), 400, start - 24 * HOUR, timedelta(days=34), ["bolt", "bolt-2", "other"])
    events = [replace(event, id=f"r-{event.id}", offset=event.offset + 1000) for event in events]
    await made.count(events)
    await close_all(made)
    [billed] = await made.invoices(held["id"])
    assert (billed.period_start, billed.period_end) == (start, end)
    known = [event for event in events if event.cut < billed.cut]
    assert 0 < len(known) < len(events)
    status, body = await get(app, f"/v1/invoices/{billed.id}/explain", headers)
    assert status == 200, body
    assert {one["description"] for one in body["lines"]} == {meter.key for meter in billable}
    for meter in billable:
        told = line(body, meter.key)
        truth = value(folded(known, meter, start, end, ["bolt", "bolt-2"]), meter.aggregation)
        assert D(told["quantity"]) == truth == D(told["usage"]["total"]), meter.key
        assert told["usage"]["same"] is True, meter.key
        if told["usage"]["additive"]:
            windows = told["usage"]["windows"]
            assert sum((D(window["value"]) for window in windows), D(0)) == truth
            assert [windows[0]["start"], windows[-1]["end"]] == ["2026-05-17T10:20:31Z", "2026-06-17T10:20:31Z"]
    _, page = await get(app, f"{line(body, 'sum')['usage']['events']}&limit=500", headers)
    assert page["next_cursor"] is None
    assert sum(D(event["value"]) for event in page["items"] if event["value"]) == D(line(body, "sum")["quantity"])
