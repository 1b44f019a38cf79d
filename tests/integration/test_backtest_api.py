"""`POST /v1/prices/backtest` on real usage: it bills what closings billed, and beside it what other prices would have."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest_asyncio
from temporalio.testing import ActivityEnvironment

from runtime.clock import SystemClock
from schemas.closing import ClosingBatch, DueQuestion
from stores.postgres.keys import ApiKeys
from tests.support.catalog_api import Answered, CatalogApi, app_on
from tests.support.closing import Books, books, call
from tests.support.usage_events import ENVIRONMENT, TENANT

APRIL, MAY, JUNE = (datetime(2026, month, 1, tzinfo=UTC) for month in (4, 5, 6))
BACKTEST = "/v1/prices/backtest"
RANGE = {"from": "2026-05-01T00:00:00Z", "to": "2026-07-01T00:00:00Z"}
DEARER: dict[str, Any] = {
    "currency": "EUR",
    "prices": [
        {"key": "fee", "price": {"model": "flat", "amount": "40"}},
        {"key": "calls", "meter": "count", "price": {"model": "per_unit", "unit_amount": "1", "minimum_amount": "5"}},
    ],
}
REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"customers": ["nobody"], **DEARER}, 404, "customer_not_found"),
    ({"holders_of": "none", **DEARER}, 404, "plan_not_found"),
    ({"customers": [], "plan": "none"}, 404, "plan_not_found"),
    ({"customers": [], "plan": "standard", "version": 9}, 404, "plan_version_not_found"),
    ({**DEARER}, 422, "cohort_ambiguous"),
    ({"customers": [], "holders_of": "standard", **DEARER}, 422, "cohort_ambiguous"),
    ({"customers": []}, 422, "prices_or_plan"),
    ({"customers": [], "plan": "standard", **DEARER}, 422, "prices_or_plan"),
    ({"customers": [], "prices": []}, 422, "prices_or_plan"),
    ({"customers": [], "version": 1, **DEARER}, 422, "prices_or_plan"),
    ({"customers": [], "currency": "XXX", "prices": []}, 422, "unknown_currency"),
    ({"customers": ["acme"] * 201, **DEARER}, 422, "backtest_too_large"),
    ({"customers": [], "from": "2026-07-01T00:00:00Z", **DEARER}, 422, "range_empty"),
    ({"customers": [], "from": "2024-07-01T00:00:00Z", **DEARER}, 422, "range_out_of_bounds"),
    (
        {"customers": [], "from": "0001-01-01T00:00:00+14:00", "to": "0001-01-02T00:00:00Z", **DEARER},
        422,
        "range_out_of_bounds",
    ),
    ({"customers": [], "from": "2026-05-01T00:00:00", **DEARER}, 422, "time_without_zone"),
    (
        {"customers": [], "currency": "EUR", "prices": [{**DEARER["prices"][1], "meter": "none"}]},
        422,
        "meter_unknown",
    ),
    ({"customers": [], "at": 0, **DEARER}, 422, "invalid_request"),
    ({"customers": [], "at": 10**30, **DEARER}, 422, "invalid_request"),
]


class Closed:
    """Books with closed periods, and the API on them."""

    def __init__(self, made: Books, api: CatalogApi) -> None:
        self.made = made
        self.api = api

    async def backtest(self, **asked: Any) -> Answered:
        return await self.api.send("POST", BACKTEST, {**RANGE, **asked})


@pytest_asyncio.fixture
async def closed(postgres_url: str, clickhouse_url: str) -> AsyncIterator[Closed]:
    async with books(postgres_url, clickhouse_url, "backtest_api") as made:
        await made.subscribe("acme", MAY)
        await made.subscribe("bolt", datetime(2026, 5, 20, tzinfo=UTC), billing="calendar")
        calls = [call(number, "acme", JUNE, f"user-{number % 3}") for number in range(1, 8)]
        await made.count([*calls, call(8, "acme-old", MAY, "ann"), call(9, "bolt", JUNE, "zoe")])
        activities, run = made.activities(), ActivityEnvironment().run
        cutoff = (await run(activities.take_cutoff)).cutoff
        assert cutoff is not None
        page = await run(activities.find_due, DueQuestion(cutoff=cutoff))
        await run(activities.close_batch, ClosingBatch(cutoff=cutoff, periods=page.periods))
        _, secret = await ApiKeys(made.engine, SystemClock(), made.ids).create(TENANT, ENVIRONMENT, ["*"])
        headers = {"authorization": f"Bearer {secret.reveal()}"}
        yield Closed(made, CatalogApi(app_on(made.engine, made.ids, made.clickhouse), made.engine, headers))


async def test_under_the_present_prices_it_comes_to_what_was_invoiced(closed: Closed) -> None:
    answer = await closed.backtest(holders_of="standard", plan="standard")
    assert answer.status == 200, answer.body
    periods = [period for one in answer.body["customers"] for period in one["periods"]]
    invoices = {(one.subscription_id, f"{one.period_start:%Y-%m-%d}"): one for one in await closed.made.invoices()}
    assert len(periods) == len(invoices) == 4
    for period in periods:
        invoice = invoices[period["subscription_id"], period["start"][:10]]
        assert period["total"] == {"present": str(invoice.total), "other": str(invoice.total), "difference": "0.00"}
        assert [line["amount"] for line in period["present_lines"]] == [str(line.amount) for line in invoice.lines]
    assert answer.body["cut"] == next(iter(invoices.values())).cut
    total = sum((invoice.total for invoice in invoices.values()), Decimal(0))
    assert answer.body["total"]["present"] == str(total)


async def test_other_prices_show_their_difference_by_customer_period_and_line(closed: Closed) -> None:
    answer = await closed.backtest(customers=["acme-old", "bolt"], **DEARER)
    assert (answer.status, answer.body["currency"]) == (200, "EUR"), answer.body
    acme, bolt = answer.body["customers"]
    assert (acme["customer_id"], bolt["customer_id"]) == ("cus_acme", "cus_bolt")
    may, june = acme["periods"]
    # 31 + 1 call + 1 user against 40 and a minimum of 5; then 31 + 7 calls + 3 users against 40 + 7.
    assert may["total"] == {"present": "32.25", "other": "45.00", "difference": "12.75"}
    assert june["total"] == {"present": "35.75", "other": "47.00", "difference": "11.25"}
    assert acme["total"]["difference"] == "24.00"
    assert [(line["kind"], line["price_key"], line["amount"]) for line in may["other_lines"]] == [
        ("fee", "fee", "40.00"),
        ("usage", "calls", "1.00"),
        ("true_up", "calls", "4.00"),
    ]
    assert june["other_lines"][1]["steps"][0]["kind"] == "units"
    # The stub of 12 of 31 days: fees and the minimum are prorated as an invoice would.
    stub = bolt["periods"][0]
    assert [line["amount"] for line in stub["other_lines"]] == ["15.48", "0.00", "1.94"]
    differences = [Decimal(one["total"]["difference"]) for one in (acme, bolt)]
    assert Decimal(answer.body["total"]["difference"]) == sum(differences)


async def test_at_a_cut_it_answers_the_same_whatever_arrives_later(closed: Closed) -> None:
    first = await closed.backtest(customers=["acme"], **DEARER)
    await closed.made.count([call(50, "acme", JUNE, "late", cut=first.body["cut"])])
    again = await closed.backtest(customers=["acme"], at=first.body["cut"], **DEARER)
    assert again.body["customers"] == first.body["customers"]
    unknown = await closed.backtest(customers=["acme"], at=first.body["cut"] + 1, **DEARER)
    assert (unknown.status, unknown.code) == (404, "cut_unknown")


async def test_it_stores_nothing(closed: Closed) -> None:
    before = await closed.made.invoices()
    await closed.backtest(holders_of="standard", **DEARER)
    assert await closed.made.invoices() == before
    assert len((await closed.api.send("GET", "/v1/plans")).body["items"]) == 1


async def test_a_draft_is_tried_on_the_past_before_it_is_published(closed: Closed) -> None:
    api, versions = closed.api, "/v1/plans/standard/versions"
    await api.made(versions, {"prices": DEARER["prices"], "entitlements": []})
    tried = await closed.backtest(holders_of="standard", plan="standard", version=2)
    listed = await closed.backtest(holders_of="standard", **DEARER)
    assert tried.status == 200, tried.body
    assert [one["total"] for one in tried.body["customers"]] == [one["total"] for one in listed.body["customers"]]
    gap = {"model": "graduated", "tiers": [{"up_to": "5", "unit_amount": "1"}]}
    await api.send("PATCH", f"{versions}/2", {"prices": [{"key": "calls", "meter": "count", "price": gap}]})
    refused = await closed.backtest(holders_of="standard", plan="standard", version=2)
    assert (refused.status, refused.code) == (422, "tiers_gap")


async def test_what_cannot_be_compared_is_listed_with_its_reason_and_holds_up_no_other(closed: Closed) -> None:
    await closed.api.made("/v1/plans", {"key": "yearly", "currency": "EUR", "cadence": "year"})
    yearly = await closed.backtest(holders_of="standard", plan="yearly")
    assert yearly.status == 200, yearly.body
    assert {one["refused"][0]["code"] for one in yearly.body["customers"]} == {"cadence_mismatch"}
    dollars = await closed.backtest(customers=["acme"], prices=DEARER["prices"], currency="USD")
    assert [one["refused"][0]["code"] for one in dollars.body["customers"]] == ["currency_mixed"]
    assert dollars.body["total"] == {"present": "0", "other": "0", "difference": "0"}


async def test_only_periods_that_end_in_the_range_and_are_known_are_rated(closed: Closed) -> None:
    async def starts(**asked: Any) -> list[str]:
        answer = await closed.backtest(customers=["acme"], **DEARER, **asked)
        assert answer.status == 200, answer.body
        return [period["start"][:10] for one in answer.body["customers"] for period in one["periods"]]

    assert await starts() == ["2026-05-01", "2026-06-01"]
    assert await starts(**{"from": "2026-06-01T00:00:00Z"}) == ["2026-06-01"]
    assert await starts(**{"from": "2026-05-31T23:59:59Z"}) == ["2026-05-01", "2026-06-01"]
    assert await starts(to="2026-06-30T23:59:59Z") == ["2026-05-01"]
    # July is still running at the cut.
    assert await starts(to="2027-01-01T00:00:00+01:00") == ["2026-05-01", "2026-06-01"]
    assert await starts(**{"from": "2020-01-01T00:00:00Z", "to": "2020-06-01T00:00:00Z"}) == []


async def test_what_is_asked_wrongly_is_refused(closed: Closed) -> None:
    for asked, status, code in REFUSED:
        answer = await closed.backtest(**asked)
        assert (answer.status, answer.code) == (status, code), (asked, answer.body)
