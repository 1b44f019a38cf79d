"""Late usage on real stores: what comes after its period was billed is on a later invoice, once and to the cent."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import psycopg
import pytest
import pytest_asyncio
from msgspec.structs import replace
from sqlalchemy import text

from runtime.settings import ClickhouseSettings, Secret
from schemas.catalog import TenantLimits
from schemas.closing import BatchClosed, ClosingBatch, DueQuestion
from schemas.invoices import KeptInvoice
from schemas.plans import Plan
from schemas.prices import GraduatedPrice, PackagePrice, PlanPrice, Price, Tier
from stores.clickhouse.client import ClickhouseClient, Parameters, Row, TookTooLong
from stores.postgres.closings import failures_of
from stores.postgres.customers import change_customer, get_customer
from stores.postgres.engine import transaction
from stores.postgres.limits import set_limits
from stores.postgres.plans import create_plan
from tests.support.closing import SCOPE, Books, books, call, plan
from tests.support.closing_api import BooksApi
from tests.support.closing_time import begin, close, end, look, move_to

MAY, JUNE, JULY, AUGUST, SEPTEMBER = (datetime(2026, month, 1, tzinfo=UTC) for month in range(5, 10))
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest_asyncio.fixture
async def made(postgres_url: str, clickhouse_url: str) -> AsyncIterator[Books]:
    async with books(postgres_url, clickhouse_url, "late_usage") as found:
        await begin(found, MAY)
        yield found


async def offered(made: Books, **prices: Price) -> Plan:
    """A plan with these prices of a call each."""
    listed = tuple(
        PlanPrice(id=f"pri_late_{key}", key=key, currency="EUR", price=price, meter_id="met_count")
        for key, price in prices.items()
    )
    new = replace(plan(), id="pla_2", key="late", version_id="plv_2", prices=listed)
    async with transaction(made.engine) as conn:
        await create_plan(conn, SCOPE, new)
    return new


def adjustments(invoice: KeptInvoice) -> list[tuple[str, int, Any, Any, str]]:
    return [
        (
            line.price_key,
            line.period_start.month,
            line.adjusts.quantity_before,
            line.adjusts.quantity_after,
            str(line.amount),
        )
        for line in invoice.lines
        if line.adjusts is not None
    ]


async def recomputes(made: Books) -> None:
    api = BooksApi(made)
    for invoice in await made.invoices():
        status, body = await api.send("GET", f"/v1/invoices/{invoice.id}/recompute")
        assert (status, body["same"]) == (200, True), body
        assert len(body["lines"]) == len(invoice.lines)


async def test_late_events_are_an_adjustment_line_on_the_next_invoice_and_only_there(made: Books) -> None:
    subscription = await made.subscribe("acme", MAY)
    await made.count([call(1, "acme", MAY + DAY, "ann")])
    cut, _ = await close(made, JUNE + HOUR)
    late = [call(2, "acme", MAY + DAY, "ann", cut=cut), call(3, "acme-old", MAY + 2 * DAY, "bob", cut=cut)]
    await made.count([*late, call(4, "acme", JUNE + DAY, "cyd", cut=cut)])
    cut, closed = await close(made, JULY + HOUR)
    assert closed == BatchClosed(billed=1)
    await made.count([call(5, "acme", JULY + DAY, "ann", cut=cut)])
    await close(made, AUGUST + HOUR)
    may, june, july = await made.invoices(subscription)
    assert may.total == Decimal("32.25")
    assert adjustments(june) == [("calls", 5, 1, 3, "0.50"), ("users", 5, 1, 2, "1.00")]
    [calls] = [line for line in june.lines if line.kind == "adjustment" and line.price_key == "calls"]
    assert (str(calls.quantity), calls.period_end, str(calls.exact_amount)) == ("2", JUNE, "0.5")
    assert calls.adjusts is not None
    assert (calls.adjusts.invoice_id, calls.adjusts.sequence, calls.adjusts.cut) == (may.id, 1, may.cut)
    assert june.total == Decimal("32.25") + Decimal("1.50")
    assert (june.subtotal, june.amount_due) == (june.total, june.total)
    assert adjustments(july) == []
    await recomputes(made)


async def test_each_closing_adjusts_what_is_new_and_what_is_below_a_cent_is_carried(made: Books) -> None:
    tiers = (Tier(up_to=Decimal(2), unit_amount=Decimal("0.004")), Tier(unit_amount=Decimal("0.003")))
    subscription = await made.subscribe("acme", MAY, to=await offered(made, calls=GraduatedPrice(tiers=tiers)))
    await made.count([call(1, "acme", MAY + DAY, "ann")])  # 0.004
    cut, _ = await close(made, JUNE + HOUR)
    await made.count([call(2, "acme", MAY + DAY, "ann", cut=cut)])  # 0.008: one cent
    cut, _ = await close(made, JULY + HOUR)
    await made.count([call(3, "acme", MAY + DAY, "ann", cut=cut)])  # 0.011: no other cent
    await made.count([call(4, "acme", JUNE + DAY, "ann", cut=cut)])
    await close(made, AUGUST + HOUR)
    may, june, july = await made.invoices(subscription)
    assert not may.total
    assert (adjustments(june), adjustments(july)) == ([("calls", 5, 1, 2, "0.01")], [])
    cut = july.cut
    await made.count([call(n, "acme", JUNE + DAY, "ann", cut=cut) for n in (5, 6)])  # June: 0.011
    await close(made, SEPTEMBER + HOUR)
    *_, august = await made.invoices(subscription)
    assert adjustments(august) == [("calls", 6, 0, 3, "0.01")]
    await recomputes(made)


async def test_an_ended_subscription_gets_an_invoice_of_adjustments_of_its_own(made: Books) -> None:
    packages = PackagePrice(amount=Decimal(2), package_size=Decimal(2), minimum_amount=Decimal(5))
    subscription = await made.subscribe("acme", MAY, to=await offered(made, calls=packages))
    await end(made, subscription, JUNE)
    cut, _ = await close(made, JUNE + HOUR)
    assert await look(made, JUNE + 2 * HOUR) == (None, 0)
    await made.count([call(n, "acme", MAY + DAY, "ann", cut=cut) for n in range(1, 8)])
    cutoff, billed = await look(made, JUNE + 2 * DAY)
    assert cutoff is not None
    assert billed == 1
    await made.count(
        [call(8, "acme", MAY + 3 * DAY, "ann", cut=cutoff.cut), call(9, "acme", MAY, "bob", cut=cutoff.cut)]
    )
    assert (await look(made, JUNE + 4 * DAY))[1] == 1
    assert (await look(made, JUNE + 6 * DAY))[1] == 0
    closing, first, second = await made.invoices(subscription)
    assert [closing.total, first.total, second.total] == [5, 3, 2]
    assert (first.period_start, first.period_end, first.state, len(first.lines)) == (MAY, JUNE, "open", 1)
    assert adjustments(first) == [("calls", 5, 0, 7, "3.00")]
    assert adjustments(second) == [("calls", 5, 7, 9, "2.00")]
    assert [step.kind for step in first.lines[0].steps] == ["packages", "minimum"]
    async with transaction(made.engine) as conn:
        kept = await conn.execute(
            text("SELECT kind, sequence, invoice_id FROM billed_periods ORDER BY kind DESC, sequence")
        )
        assert [tuple(row) for row in kept] == [
            ("usage", 0, closing.id),
            ("adjustment", 1, first.id),
            ("adjustment", 2, second.id),
        ]
    await recomputes(made)


async def test_an_ended_subscription_is_looked_at_until_late_events_are_accepted_no_more(made: Books) -> None:
    subscription = await made.subscribe("acme", MAY)
    await end(made, subscription, JUNE)
    await close(made, JUNE + HOUR)
    for days in (2, 30, 69, 71):
        cutoff, _ = await look(made, JUNE + days * DAY)
        assert cutoff is not None
    assert await look(made, JUNE + 80 * DAY) == (None, 0)


class Slow(ClickhouseClient):
    """Has time for one meter of one customer a statement, and for none of bolt's."""

    async def rows(self, sql: str, parameters: Parameters | None = None, **settings: Any) -> list[Row]:
        read = (parameters or {}).get("whole_pieces", "[]")
        if len({piece[5][0] for piece in msgspec.json.decode(read)}) > 1 or "cus_bolt" in read:
            raise TookTooLong("clickhouse", "timeout")
        return await super().rows(sql, parameters, **settings)


async def test_an_ended_subscription_that_takes_too_long_to_read_holds_up_no_other(
    made: Books, clickhouse_url: str
) -> None:
    for name in ("acme", "bolt", "core"):
        await end(made, await made.subscribe(name, MAY), JUNE)
    cut, _ = await close(made, JUNE + HOUR)
    names = ("acme", "bolt", "core")
    await made.count([call(number, name, MAY + DAY, "ann", cut=cut) for number, name in enumerate(names)])
    fast = made.clickhouse
    made.clickhouse = Slow(ClickhouseSettings(url=Secret(clickhouse_url), database=fast.database))
    assert (await look(made, JUNE + 2 * DAY))[1] == 2
    await made.clickhouse.close()
    async with transaction(made.engine) as conn:
        assert [one.code for one in await failures_of(conn, "sub_bolt")] == ["usage_too_slow"]
    made.clickhouse = fast
    assert (await look(made, JUNE + 2 * DAY + HOUR))[1] == 1
    async with transaction(made.engine) as conn:
        assert not await failures_of(conn, "sub_bolt")


async def test_a_name_that_a_customer_takes_later_brings_its_usage_along(made: Books) -> None:
    subscription = await made.subscribe("acme", MAY)
    await made.count([call(1, "renamed", MAY + DAY, "ann")])
    await close(made, JUNE + HOUR)
    async with transaction(made.engine) as conn:
        acme = await get_customer(conn, SCOPE, "acme")
        await change_customer(conn, SCOPE, replace(acme, aliases=(*acme.aliases, "renamed")))
    await close(made, JULY + HOUR)
    _, june = await made.invoices(subscription)
    assert adjustments(june) == [("calls", 5, 0, 1, "0.25"), ("users", 5, 0, 1, "1.00")]
    await recomputes(made)


async def test_a_name_that_comes_and_goes_after_the_end_is_billed_and_given_back(made: Books) -> None:
    subscription = await made.subscribe("acme", MAY)
    await made.count([call(1, "renamed", MAY + DAY, "ann")])
    await end(made, subscription, JUNE)
    await close(made, JUNE + HOUR)
    async with transaction(made.engine) as conn:
        acme = await get_customer(conn, SCOPE, "acme")
        await change_customer(conn, SCOPE, replace(acme, aliases=(*acme.aliases, "renamed")))
    await look(made, JUNE + 2 * DAY)
    async with transaction(made.engine) as conn:
        await change_customer(conn, SCOPE, acme)
    await look(made, JUNE + 4 * DAY)
    _, taken, given = await made.invoices(subscription)
    assert adjustments(taken) == [("calls", 5, 0, 1, "0.25"), ("users", 5, 0, 1, "1.00")]
    assert adjustments(given) == [("calls", 5, 1, 0, "-0.25"), ("users", 5, 1, 0, "-1.00")]


async def test_a_subscription_that_is_ended_where_it_was_billed_to_is_looked_at_as_well(made: Books) -> None:
    made.clock.at = MAY
    subscription = await made.subscribe("acme", MAY)
    cut, _ = await close(made, JUNE + HOUR)
    ended = {"when": JUNE.isoformat()}
    status, body = await BooksApi(made).send("POST", f"/v1/subscriptions/{subscription}/cancel", ended)
    assert (status, body["next_close_at"]) == (200, None), body
    await made.count([call(1, "acme", MAY + DAY, "ann", cut=cut)])
    assert (await look(made, JUNE + 2 * DAY))[1] == 1


async def test_a_recount_of_late_usage_that_differs_stops_the_invoice_and_is_told(made: Books) -> None:
    subscription = await made.subscribe("acme", MAY)
    cut, _ = await close(made, JUNE + HOUR)
    await made.count([call(1, "acme", MAY + DAY, "ann", cut=cut)])
    await made.clickhouse.command(f"TRUNCATE TABLE {made.clickhouse.reads('events')}")
    _, closed = await close(made, JULY + HOUR)
    assert closed == BatchClosed(stopped=(subscription,))
    async with transaction(made.engine) as conn:
        assert [one.code for one in await failures_of(conn, subscription)] == ["recount_differs"]


async def test_the_upcoming_invoice_shows_adjustments_and_an_event_the_line_that_it_is_in(made: Books) -> None:
    subscription = await made.subscribe("acme", MAY)
    await made.count([call(1, "acme", MAY + DAY, "ann")])
    cut, _ = await close(made, JUNE + HOUR)
    await made.count([call(2, "acme", MAY + DAY, "ann", cut=cut)])
    await move_to(made, JUNE + DAY)
    api = BooksApi(made)
    status, body = await api.send("POST", "/v1/invoices/preview", {"subscription": subscription})
    assert status == 200, body
    [line] = [line for line in body["lines"] if line["kind"] == "adjustment"]
    assert (line["price_key"], line["amount"], line["adjusts"]["quantity_after"]) == ("calls", "0.25", "2")
    await close(made, JULY + HOUR)
    may, june = await made.invoices(subscription)
    for number, invoice in ((1, may), (2, june)):
        _, found = await api.send("GET", f"/v1/events/lookup?source=&id=call-{number}")
        assert {one["invoice_id"] for one in found["lines"]} == {invoice.id}, found


async def test_the_same_adjustment_cannot_be_kept_twice(made: Books) -> None:
    subscription = await made.subscribe("acme", MAY)
    await end(made, subscription, JUNE)
    cut, _ = await close(made, JUNE + HOUR)
    await made.count([call(1, "acme", MAY + DAY, "ann", cut=cut)])
    assert (await look(made, JUNE + 2 * DAY))[1] == 1
    async with transaction(made.engine) as conn:
        await conn.execute(text("DELETE FROM invoice_lines WHERE kind = 'adjustment'"))
        await conn.execute(text("UPDATE late_looks SET cut = :cut"), {"cut": cut})
    with pytest.raises(psycopg.errors.UniqueViolation):
        await look(made, JUNE + 4 * DAY)


async def test_many_who_bill_the_same_late_usage_at_once_bill_it_once(made: Books) -> None:
    for name in ("acme", "bolt", "core"):
        await made.subscribe(name, MAY)
    await end(made, "sub_core", JUNE)
    cut, _ = await close(made, JUNE + HOUR)
    late = [call(n, name, MAY + DAY, "ann", cut=cut) for n, name in enumerate(("acme", "bolt", "core"), 1)]
    await made.count(late)
    await move_to(made, JULY + HOUR)
    activities = made.activities()
    cutoff = (await activities.take_cutoff()).cutoff
    assert cutoff is not None
    question = DueQuestion(cutoff=cutoff)
    batch = ClosingBatch(cutoff=cutoff, periods=(await activities.find_due(question)).periods)
    closed = await asyncio.gather(*(made.activities().close_batch(batch) for _ in range(3)))
    looked = await asyncio.gather(*(made.activities().bill_late(question) for _ in range(3)))
    assert (sum(one.billed for one in closed), sum(one.billed for one in looked)) == (2, 1)
    found = await made.invoices()
    assert [invoice.number for invoice in found] == [f"INV-00000{n}" for n in range(1, 7)]
    for invoice in found[3:]:
        assert adjustments(invoice) == [("calls", 5, 0, 1, "0.25"), ("users", 5, 0, 1, "1.00")]


async def test_each_part_of_a_period_is_adjusted_at_the_prices_that_held_in_it_and_a_pause_at_none(made: Books) -> None:
    made.clock.at = MAY
    subscription = await made.subscribe("acme", MAY)
    await offered(made, calls=GraduatedPrice(tiers=(Tier(unit_amount=Decimal(7)),)))
    api = BooksApi(made)
    of_acme = f"/v1/subscriptions/{subscription}"
    made.clock.at = MAY + 10 * DAY
    assert (await api.send("POST", f"{of_acme}/change", {"plan": "late"}))[0] == 200
    made.clock.at = MAY + 20 * DAY
    resumed = {"resumes_at": (MAY + 25 * DAY).isoformat()}
    assert (await api.send("POST", f"{of_acme}/pause", resumed))[0] == 200
    await made.count([call(1, "acme", MAY + 12 * DAY, "ann")])
    cut, _ = await close(made, JUNE + HOUR)
    days = {2: 3, 3: 13, 4: 22, 5: 26, 6: 27}  # numbers of calls, and when they were: the third of them in the pause
    await made.count([call(number, "acme", MAY + day * DAY, "ann", cut=cut) for number, day in days.items()])
    await close(made, JULY + HOUR)
    may, june = await made.invoices(subscription)
    assert [(line.price_id, str(line.quantity)) for line in may.lines if line.kind == "usage"] == [
        ("pri_calls", "0"),
        ("pri_users", "0"),
        ("pri_late_calls", "1"),
    ]
    assert adjustments(june) == [("calls", 5, 0, 1, "0.25"), ("users", 5, 0, 1, "1.00"), ("calls", 5, 1, 4, "21.00")]
    [part] = [line for line in june.lines if line.kind == "adjustment" and line.price_id == "pri_late_calls"]
    assert part.spans == ((MAY + 10 * DAY, MAY + 20 * DAY), (MAY + 25 * DAY, JUNE))
    await recomputes(made)


async def test_late_usage_is_looked_for_as_far_back_as_the_tenant_accepts_it(made: Books) -> None:
    subscription = await made.subscribe("acme", MAY)
    async with transaction(made.engine) as conn:
        await set_limits(conn, SCOPE, TenantLimits(max_event_age_s=12 * 86_400))
    cut, _ = await close(made, JUNE + HOUR)
    cut, _ = await close(made, JULY + HOUR)
    await made.count([call(1, "acme", MAY + DAY, "ann", cut=cut), call(2, "acme", JUNE + DAY, "ann", cut=cut)])
    await close(made, AUGUST + HOUR)
    *_, july = await made.invoices(subscription)
    assert [month for _, month, *_ in adjustments(july)] == [6, 6]
