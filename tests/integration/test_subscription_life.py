"""The life of a subscription over HTTP and through closings, on real PostgreSQL and ClickHouse."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import text

from domain.subscriptions.fold import fold
from runtime.settings import ClickhouseSettings, Secret
from schemas.contracts import CustomerContract
from schemas.subscription_changes import ChangeRecord
from schemas.subscription_life import Life
from stores.clickhouse.client import ClickhouseClient, Parameters, Row
from stores.postgres.engine import transaction
from stores.postgres.subscription_history import history_of
from tests.support.closing import Books, books, call
from tests.support.life_api import LifeApi, life_api

JUNE, JULY, AUGUST = (datetime(2026, month, 1, tzinfo=UTC) for month in (6, 7, 8))
PRO = {
    "key": "pro",
    "currency": "EUR",
    "prices": [
        {"key": "fee", "price": {"model": "flat", "amount": "310"}},
        {"key": "seats", "price": {"model": "per_unit", "unit_amount": "31"}, "quantity": "2"},
        {"key": "calls", "meter": "count", "price": {"model": "per_unit", "unit_amount": "0.5"}},
    ],
    "entitlements": [{"type": "boolean", "feature": "sso"}],
}


@pytest_asyncio.fixture
async def made(postgres_url: str, clickhouse_url: str) -> AsyncIterator[Books]:
    async with books(postgres_url, clickhouse_url, "subscription_life", as_of=AUGUST + timedelta(days=9)) as found:
        yield found


@pytest_asyncio.fixture
async def api(made: Books) -> LifeApi:
    found = await life_api(made)
    assert (await found.call("POST", "/v1/features", {"key": "sso", "kind": "boolean"})).status == 201
    assert (await found.call("POST", "/v1/plans", PRO)).status == 201
    made.clock.at = JUNE
    return found


async def history(made: Books, subscription_id: str) -> tuple[ChangeRecord, ...]:
    async with transaction(made.engine) as conn:
        return await history_of(conn, subscription_id)


async def row(made: Books, subscription_id: str) -> Any:
    async with transaction(made.engine) as conn:
        found = await conn.execute(text("SELECT * FROM subscriptions WHERE id = :id"), {"id": subscription_id})
        return found.one()


async def last_contract(made: Books, customer_id: str) -> CustomerContract:
    async with transaction(made.engine) as conn:
        query = text(
            "SELECT value FROM outbox WHERE topic = 'contracts.changed' AND key LIKE :key ORDER BY id DESC LIMIT 1"
        )
        value = (await conn.execute(query, {"key": f"%/{customer_id}".encode()})).scalar_one()
    return msgspec.json.decode(value, type=CustomerContract)


async def amounts(api: LifeApi, subscription_id: str) -> list[list[tuple[str, str, str]]]:
    """Of each invoice in order: key, quantity and amount of its lines; each is checked against its recomputation."""
    found = await api.made.invoices(subscription_id)
    for invoice in found:
        again = (await api.get(f"/invoices/{invoice.id}/recompute")).body
        assert again["same"] is True, again
    return [[(line.price_key, str(line.quantity), str(line.amount)) for line in invoice.lines] for invoice in found]


async def test_a_subscription_begins_with_a_history_that_says_what_its_row_says(api: LifeApi, made: Books) -> None:
    await made.subscribe("acme", JUNE)
    made.clock.at = JULY
    sent = {"customer": "acme", "plan": "pro", "start_at": "2026-06-15T02:00:00+02:00", "quantities": {"seats": "5"}}
    created = await api.post("", sent, idempotency_key="order-1")
    assert (created.status, created.body["status"], created.body["quantities"]) == (201, "active", {"seats": "5"})
    subscription_id = created.body["id"]
    told = await history(made, subscription_id)
    assert [(record.revision, record.key) for record in told] == [(1, "order-1/1"), (2, "order-1/2")]
    kept = await row(made, subscription_id)
    assert msgspec.convert(kept.life, Life) == fold(told)
    assert (kept.terms_revision, kept.start_at) == (2, datetime(2026, 6, 15, tzinfo=UTC))
    again = await api.post("", sent, idempotency_key="order-1")
    assert (again.status, again.body["id"]) == (201, subscription_id)
    assert await history(made, subscription_id) == told


async def test_the_history_is_read_page_by_page(api: LifeApi, made: Books) -> None:
    subscription_id = await made.subscribe("acme", JUNE)
    made.clock.at = JULY
    await api.post(f"/{subscription_id}/pause", {"reason": "holidays"})
    first = (await api.get(f"/subscriptions/{subscription_id}/history?limit=2")).body
    second = (await api.get(f"/subscriptions/{subscription_id}/history?limit=2&cursor={first['next_cursor']}")).body
    assert [item["change"]["kind"] for item in first["items"]] == ["create", "activate"]
    [paused] = second["items"]
    assert (paused["revision"], paused["change"]["kind"], paused["reason"]) == (3, "pause", "holidays")
    assert (paused["made_at"], paused["effective_at"]) == ("2026-07-01T00:00:00Z", "2026-07-01T00:00:00Z")
    assert paused["made_by"].startswith("key_")
    assert second["next_cursor"] is None
    assert (await api.get(f"/subscriptions/{subscription_id}/history?cursor=x")).body["code"] == "cursor_invalid"
    assert (await api.get("/subscriptions/sub_none/history")).status == 404


async def test_an_upgrade_at_once_bills_each_plan_for_its_part_and_shows_it_before(api: LifeApi, made: Books) -> None:
    subscription_id = await made.subscribe("acme", JULY)
    at_once = datetime(2026, 7, 11, tzinfo=UTC)
    made.clock.at = at_once
    await made.count(
        [call(1, "acme", JULY, "ann"), call(2, "acme", at_once, "ann"), call(3, "acme", at_once, "bob")],
    )
    asked = {"plan": "pro", "quantities": {"seats": "31"}}
    shown = (await api.post(f"/{subscription_id}/change/preview", asked)).body
    charges = {line["price_key"]: line["amount"] for line in shown["lines"] if line["plan_version_id"] != "plv_1"}
    assert charges == {"fee": "210.00", "seats": "651.00", "calls": None}
    assert (shown["due_now"], shown["effective_at"]) == ("0", "2026-07-11T00:00:00Z")
    assert len(await history(made, subscription_id)) == 2
    changed = await api.post(f"/{subscription_id}/change", asked, idempotency_key="up")
    assert (changed.status, changed.body["terms_revision"]) == (200, 4)
    assert changed.body["plan_version_id"] != "plv_1"
    repeated = await api.post(f"/{subscription_id}/change", asked, idempotency_key="up")
    assert (repeated.status, repeated.body, len(await history(made, subscription_id))) == (200, changed.body, 4)
    other = await api.post(f"/{subscription_id}/change", {"plan": "standard"}, idempotency_key="up")
    assert (other.status, other.body["code"]) == (422, "idempotency_key_reused")
    made.clock.at = AUGUST + timedelta(days=1)
    await api.close()
    assert await amounts(api, subscription_id) == [
        [
            ("fee", "1", "10.00"),
            ("calls", "1", "0.25"),
            ("users", "1", "1.00"),
            ("fee", "1", "210.00"),
            ("seats", "31", "651.00"),
            ("calls", "2", "1.00"),
        ]
    ]


async def test_a_downgrade_at_period_end_waits_and_can_be_withdrawn(api: LifeApi, made: Books) -> None:
    subscription_id = await made.subscribe("acme", JUNE)
    made.clock.at = datetime(2026, 6, 10, tzinfo=UTC)
    await api.post(f"/{subscription_id}/change", {"plan": "pro"})
    planned = await api.post(f"/{subscription_id}/change", {"plan": "standard", "when": "period_end"})
    assert planned.body["plan_version_id"] != "plv_1"
    pending = await api.post(f"/{subscription_id}/change", {"plan": "standard"})
    assert (pending.status, pending.body["code"]) == (409, "change_pending")
    withdrawn = await api.post(f"/{subscription_id}/change", {"withdraw": planned.body["terms_revision"]})
    assert withdrawn.status == 200
    again = await api.post(f"/{subscription_id}/change", {"plan_version": "plv_1", "when": "period_end"})
    assert again.status == 200
    made.clock.at = AUGUST + timedelta(days=1)
    await api.close()
    fees = [[line for line in lines if line[0] == "fee"] for lines in await amounts(api, subscription_id)]
    assert fees == [[("fee", "1", "9.30"), ("fee", "1", "217.00")], [("fee", "1", "31.00")]]
    assert (await api.get(f"/subscriptions/{subscription_id}")).body["plan_version_id"] == "plv_1"
    assert (await row(made, subscription_id)).plan_version_id == "plv_1"


async def test_a_pause_bills_and_grants_nothing_until_it_is_resumed(api: LifeApi, made: Books) -> None:
    await made.subscribe("acme", AUGUST)
    made.clock.at = JULY
    created = await api.post("", {"customer": "acme", "plan": "pro"})
    subscription_id = created.body["id"]
    made.clock.at = datetime(2026, 7, 11, tzinfo=UTC)
    paused = await api.post(f"/{subscription_id}/pause", {"resumes_at": "2026-07-25T00:00:00Z"})
    assert (paused.body["status"], paused.body["resumes_at"]) == ("paused", "2026-07-25T00:00:00Z")
    granted = [(one.starts_at.day, one.ends_at) for one in (await last_contract(made, "cus_acme")).entitlements]
    assert granted == [(25, None)]
    twice = await api.post(f"/{subscription_id}/pause")
    assert (twice.status, twice.body["code"]) == (409, "transition_refused")
    made.clock.at = datetime(2026, 7, 21, tzinfo=UTC)
    resumed = await api.post(f"/{subscription_id}/resume")
    assert (resumed.body["status"], resumed.body["resumes_at"]) == ("active", None)
    granted = [(one.starts_at.day, one.ends_at) for one in (await last_contract(made, "cus_acme")).entitlements]
    assert granted == [(21, None)]
    paid, unpaid = datetime(2026, 7, 3, tzinfo=UTC), datetime(2026, 7, 15, 0, 0, 30, tzinfo=UTC)
    await made.count([call(1, "acme", paid, "ann"), call(2, "acme", unpaid, "ann"), call(3, "acme", AUGUST, "ann")])
    await made.count([call(4, "acme", made.clock.at, "bob")])
    made.clock.at = AUGUST + timedelta(days=1)
    await api.close()
    assert await amounts(api, subscription_id) == [
        [
            ("fee", "1", "100.00"),
            ("seats", "2", "20.00"),
            ("calls", "2", "1.00"),
            ("fee", "1", "110.00"),
            ("seats", "2", "22.00"),
        ]
    ]


async def test_a_pause_within_a_minute_leaves_out_no_usage_of_that_minute_but_its_own(
    api: LifeApi, made: Books
) -> None:
    subscription_id = await made.subscribe("acme", JULY)
    pause, resume = datetime(2026, 7, 11, 10, 0, 30, tzinfo=UTC), datetime(2026, 7, 11, 10, 0, 45, tzinfo=UTC)
    second = timedelta(seconds=1)
    times = [pause - second, pause, resume - second, resume, resume + second]
    await made.count([call(number, "acme", time, f"user-{number}") for number, time in enumerate(times, 1)])
    made.clock.at = AUGUST + timedelta(days=1)
    body = {"when": pause.isoformat(), "resumes_at": resume.isoformat()}
    assert (await api.post(f"/{subscription_id}/pause", body)).body["status"] == "active"
    await api.close()
    [lines] = await amounts(api, subscription_id)
    assert [line for line in lines if line[0] != "fee"] == [("calls", "3", "0.75"), ("users", "3", "3.00")]


async def test_cancelling_is_undone_moved_and_done_at_once(api: LifeApi, made: Books) -> None:
    subscription_id = await made.subscribe("acme", JULY)
    made.clock.at = datetime(2026, 7, 5, tzinfo=UTC)
    path = f"/{subscription_id}/cancel"
    ends = await api.post(path)
    assert (ends.body["status"], ends.body["end_at"]) == ("cancelled", "2026-08-01T00:00:00Z")
    assert (await api.post(path)).body == ends.body
    undone = await api.post(path, {"undo": True})
    assert (undone.body["status"], undone.body["end_at"]) == ("active", None)
    refused = await api.post(path, {"undo": True})
    assert (refused.status, refused.body["code"]) == (409, "transition_refused")
    moved = await api.post(path, {"when": "2026-07-20T00:00:00Z"})
    assert moved.body["end_at"] == "2026-07-20T00:00:00Z"
    made.clock.at = datetime(2026, 7, 11, tzinfo=UTC)
    now = await api.post(path, {"when": "now"})
    assert (now.body["status"], now.body["end_at"]) == ("ended", "2026-07-11T00:00:00Z")
    assert (await api.post(path)).body == now.body
    assert (await api.post(f"/{subscription_id}/pause")).body["code"] == "transition_refused"
    made.clock.at = AUGUST + timedelta(days=1)
    await api.close()
    assert (await amounts(api, subscription_id))[0][0] == ("fee", "1", "10.00")
    assert (await row(made, subscription_id)).next_close_at is None


async def test_a_trial_charges_nothing_and_moves_what_comes_after_it(api: LifeApi, made: Books) -> None:
    await made.subscribe("acme", AUGUST)
    made.clock.at = datetime(2026, 6, 1, tzinfo=UTC)
    sent = {"customer": "acme", "plan": "standard", "trial_end_at": "2026-06-20T00:00:00Z"}
    created = (await api.post("", sent)).body
    subscription_id = created["id"]
    assert (created["status"], created["next_close_at"]) == ("trialing", "2026-07-20T00:00:00Z")
    moved = await api.post(f"/{subscription_id}/change", {"trial_end_at": "2026-06-15T00:00:00Z"})
    assert (moved.body["trial_end_at"], moved.body["next_close_at"]) == (
        "2026-06-15T00:00:00Z",
        "2026-07-15T00:00:00Z",
    )
    await made.count([call(1, "acme", datetime(2026, 6, 14, tzinfo=UTC), "ann"), call(2, "acme", JULY, "ann")])
    made.clock.at = AUGUST
    await api.close()
    assert await amounts(api, subscription_id) == [
        [("fee", "1", "31.00"), ("calls", "1", "0.25"), ("users", "1", "1.00")]
    ]


async def test_phases_follow_one_another_from_a_trial_to_the_full_price(api: LifeApi, made: Books) -> None:
    await made.subscribe("acme", AUGUST)
    fee = {"key": "fee", "price": {"model": "flat", "amount": "15.50"}}
    phases = [
        {"key": "trial", "trial": True, "duration": {"unit": "day", "count": 10}},
        {"key": "ramp", "duration": {"unit": "day", "count": 10}, "rate_cards": [{"price": fee}]},
        {
            "key": "full",
            "rate_cards": [{"price": {**fee, "price": {"model": "flat", "amount": "31"}}}],
            "entitlements": [{"type": "boolean", "feature": "sso"}],
        },
    ]
    plan = {"key": "ramp", "currency": "EUR", "prices": [fee]}
    assert (await api.call("POST", "/v1/plans", plan)).status == 201
    draft = await api.call("POST", "/v1/plans/ramp/versions", {"phases": phases})
    assert draft.status == 201, draft.body
    published = await api.call("POST", "/v1/plans/ramp/versions/2/publish", {})
    assert published.status == 200, published.body
    made.clock.at = datetime(2026, 6, 21, tzinfo=UTC)
    created = (await api.post("", {"customer": "acme", "plan": "ramp"})).body
    assert (created["status"], created["trial_end_at"], created["next_close_at"]) == (
        "trialing",
        "2026-07-01T00:00:00Z",
        "2026-08-01T00:00:00Z",
    )
    [sso] = (await last_contract(made, "cus_acme")).entitlements
    assert (sso.starts_at, sso.ends_at) == (datetime(2026, 7, 11, tzinfo=UTC), None)
    made.clock.at = AUGUST + timedelta(days=1)
    await api.close()
    assert await amounts(api, created["id"]) == [[("fee", "1", "5.00"), ("fee", "1", "21.00")]]


async def test_add_ons_are_taken_on_and_off_and_billed_and_granted_for_their_units(api: LifeApi, made: Books) -> None:
    subscription_id = await made.subscribe("acme", JULY)
    feature = {"key": "calls", "kind": "metered", "meter": "count"}
    assert (await api.call("POST", "/v1/features", feature)).status == 201
    storage = {
        "key": "storage",
        "currency": "EUR",
        "max_quantity": 5,
        "plans": ["standard"],
        "rate_cards": [
            {"price": {"key": "space", "price": {"model": "flat", "amount": "31"}}, "cadence": {"unit": "month"}},
            {
                "price": {"key": "more", "meter": "count", "price": {"model": "per_unit", "unit_amount": "1"}},
                "cadence": {"unit": "month"},
            },
        ],
        "entitlements": [{"type": "metered", "feature": "calls", "limit": "100"}],
    }
    created = await api.call("POST", "/v1/addons", storage)
    assert created.status == 201, created.body
    path = f"/{subscription_id}/change"
    made.clock.at = datetime(2026, 7, 11, tzinfo=UTC)
    shown = await api.post(f"{path}/preview", {"addons": {"storage": 2}})
    assert {line["price_key"]: line["amount"] for line in shown.body["lines"]} == {"space": "42.00", "more": None}
    taken = await api.post(path, {"addons": {"storage": 2}})
    assert list(taken.body["addons"].values()) == [2]
    [granted] = (await last_contract(made, "cus_acme")).entitlements
    assert (str(granted.limit), granted.starts_at, granted.ends_at) == ("200", made.clock.at, None)
    refused = await api.post(path, {"addons": {"storage": 6}})
    assert (refused.status, refused.body["code"]) == (422, "addon_quantity_out_of_range")
    misfit = await api.post(path, {"plan": "pro"})
    assert (misfit.status, misfit.body["code"]) == (409, "addon_misfit")
    assert (await api.post(path, {"addons": {"nothing": 1}})).body["code"] == "addon_not_found"
    off = await api.post(path, {"addons": {"storage": 0}, "when": "2026-07-21T00:00:00Z"})
    assert off.status == 200
    days = (10, 12, 25)
    await made.count([call(day, "acme", datetime(2026, 7, day, tzinfo=UTC), "ann") for day in days])
    made.clock.at = AUGUST + timedelta(days=1)
    await api.close()
    [lines] = await amounts(api, subscription_id)
    assert lines == [
        ("fee", "1", "31.00"),
        ("calls", "3", "0.75"),
        ("users", "1", "1.00"),
        ("space", "2", "20.00"),
        ("more", "1", "1.00"),
    ]
    again = await api.post(path, {"addons": {"storage": 0}})
    assert (again.status, again.body["code"]) == (409, "addon_not_held")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("change", {"plan": "pro", "when": "2026-06-15T00:00:00Z"}, 409, "change_before_invoice"),
        ("cancel", {"when": "2026-05-15T00:00:00Z"}, 422, "end_before_start"),
        ("cancel", {"when": "2026-06-15T00:00:00Z"}, 409, "change_before_invoice"),
        ("cancel", {"when": "soon"}, 422, "invalid_instant"),
        ("cancel", {"when": "2026-07-15T00:00:00.5Z"}, 422, "instant_not_whole_seconds"),
        ("change", {"plan": "standard"}, 409, "plan_unchanged"),
        ("change", {"plan": "nothing"}, 404, "plan_not_found"),
        ("change", {"plan_version": "nothing"}, 404, "plan_version_not_found"),
        ("change", {}, 422, "change_missing"),
        ("change", {"plan": "pro", "plan_version": "plv_1"}, 422, "change_ambiguous"),
        ("change", {"withdraw": 9}, 404, "change_not_found"),
        ("change", {"quantities": {"calls": "1"}}, 422, "quantity_of_usage"),
        ("change", {"quantities": {"fee": "-1"}}, 422, "quantity_negative"),
        ("change", {"trial_end_at": "2026-08-01T00:00:00Z"}, 409, "transition_refused"),
        ("pause", {"resumes_at": "2026-06-01T00:00:00Z"}, 422, "resume_before_pause"),
        ("pause", {"resumes_at": "2026-08-01T00:00:00"}, 422, "time_without_zone"),
        ("pause", {"resumes_at": "0001-01-01T00:00:00+14:00"}, 422, "instant_out_of_range"),
        ("pause", {"reason": "a\x00b"}, 422, "nul_character"),
        ("resume", None, 409, "transition_refused"),
        ("resume", {"when": 5}, 422, "invalid_request"),
    ],
)
async def test_what_cannot_be_is_refused_with_a_code_and_nothing_is_done(
    api: LifeApi, made: Books, path: str, body: Any, status: int, code: str
) -> None:
    subscription_id = await made.subscribe("acme", JUNE)
    made.clock.at = JULY + timedelta(days=1)
    await api.close()
    before = await row(made, subscription_id), await history(made, subscription_id)
    refused = await api.post(f"/{subscription_id}/{path}", body)
    assert (refused.status, refused.body["code"]) == (status, code), refused.body
    assert (await row(made, subscription_id), await history(made, subscription_id)) == before
    if path == "change":
        shown = await api.post(f"/{subscription_id}/change/preview", body)
        assert (shown.status, shown.body["code"]) == (status, code)


async def test_a_subscription_that_was_kept_without_a_history_gets_one_with_its_first_change(
    api: LifeApi, made: Books
) -> None:
    subscription_id = await made.subscribe("acme", JUNE)
    async with transaction(made.engine) as conn:
        await conn.execute(
            text("DELETE FROM subscription_changes WHERE subscription_id = :id"), {"id": subscription_id}
        )
        await conn.execute(text("UPDATE subscriptions SET terms_revision = 0"))
    made.clock.at = JULY + timedelta(days=1)
    await api.close()
    assert (await api.post(f"/{subscription_id}/change/preview", {"plan": "pro"})).status == 200
    assert not await history(made, subscription_id)
    assert (await api.post(f"/{subscription_id}/pause")).body["status"] == "paused"
    told = await history(made, subscription_id)
    assert [record.made_by[:4] for record in told] == ["migr", "migr", "key_"]
    assert msgspec.convert((await row(made, subscription_id)).life, Life) == fold(told)
    assert (await amounts(api, subscription_id))[0][0] == ("fee", "1", "31.00")


async def test_two_upgrades_at_once_come_in_one_order(api: LifeApi, made: Books) -> None:
    subscription_id = await made.subscribe("acme", JULY)
    made.clock.at = datetime(2026, 7, 11, tzinfo=UTC)
    tag = (await api.get(f"/subscriptions/{subscription_id}")).headers["etag"]
    path = f"/{subscription_id}/change"
    both = await asyncio.gather(*(api.post(path, {"plan": "pro"}, if_match=tag) for _ in range(2)))
    assert sorted(one.status for one in both) == [200, 412]
    without = await asyncio.gather(
        api.post(path, {"quantities": {"seats": "3"}}),
        api.post(path, {"quantities": {"seats": "4"}}),
        api.post(f"/{subscription_id}/pause"),
    )
    assert [one.status for one in without] == [200, 200, 200]
    told = await history(made, subscription_id)
    assert [record.revision for record in told] == [1, 2, 3, 4, 5, 6]
    kept = await row(made, subscription_id)
    assert (msgspec.convert(kept.life, Life), kept.terms_revision) == (fold(told), 6)


class Upgrading(ClickhouseClient):
    """Has its subscription upgraded, once, while the usage of a batch is read."""

    def upgrade(self, api: LifeApi, subscription_id: str) -> None:
        self._todo: list[tuple[LifeApi, str]] = [(api, subscription_id)]

    async def rows(self, sql: str, parameters: Parameters | None = None, **settings: Any) -> list[Row]:
        while self._todo:
            api, subscription_id = self._todo.pop()
            body = {"plan": "pro", "when": "2026-07-11T00:00:00Z"}
            assert (await api.post(f"/{subscription_id}/change", body)).status == 200
        return await super().rows(sql, parameters, **settings)


async def test_an_upgrade_during_a_closing_stops_that_closing_and_is_billed_by_the_next(
    api: LifeApi, made: Books, clickhouse_url: str
) -> None:
    subscription_id = await made.subscribe("acme", JULY)
    other = await made.subscribe("bolt", JULY)
    made.clock.at = AUGUST + timedelta(days=1)
    upgrading = Upgrading(ClickhouseSettings(url=Secret(clickhouse_url), database=made.clickhouse.database))
    upgrading.upgrade(api, subscription_id)
    made.clickhouse = upgrading
    closed = await api.close()
    assert (closed.billed, closed.stopped) == (1, (subscription_id,))
    assert (await api.close()).billed == 1
    await upgrading.close()
    [lines] = await amounts(api, subscription_id)
    assert [line for line in lines if line[0] == "fee"] == [("fee", "1", "10.00"), ("fee", "1", "210.00")]
    assert len(await made.invoices(other)) == 1


async def test_an_invoice_of_before_a_change_is_computed_again_with_the_terms_it_was_made_with(
    api: LifeApi, made: Books
) -> None:
    subscription_id = await made.subscribe("acme", JUNE)
    await made.count([call(1, "acme", JUNE, "ann")])
    made.clock.at = JULY + timedelta(days=1)
    await api.close()
    before = await amounts(api, subscription_id)
    for body in ({"plan": "pro"}, {"quantities": {"seats": "7"}}):
        assert (await api.post(f"/{subscription_id}/change", body)).status == 200
    assert (await api.post(f"/{subscription_id}/pause")).status == 200
    assert await amounts(api, subscription_id) == before
