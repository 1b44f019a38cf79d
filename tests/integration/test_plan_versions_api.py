"""`/v1/plans/{plan}/versions` on a real PostgreSQL: what is written, published, sold and archived."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest_asyncio

from stores.postgres.engine import transaction
from stores.postgres.plans import plan_version_cards, plan_versions_by_id
from tests.support.catalog_api import CatalogApi, catalog_api

FEE = {"key": "base", "price": {"model": "flat", "amount": "49"}}
CALLS = {"key": "calls", "meter": "calls", "price": {"model": "per_unit", "unit_amount": "0.01"}}
PLAN = {
    "key": "pro",
    "name": "Pro",
    "currency": "EUR",
    "prices": [FEE, CALLS],
    "entitlements": [{"type": "metered", "feature": "calls", "limit": "1000"}],
}
VERSIONS = "/v1/plans/pro/versions"
NOT_SOLD: list[tuple[dict[str, Any], str, str]] = [
    ({"prices": [{**CALLS, "meter": "none"}]}, "meter_unknown", "/phases/0/rate_cards/0/price/meter"),
    (
        {"entitlements": [{"type": "boolean", "feature": "none"}]},
        "feature_unknown",
        "/phases/0/entitlements/0/feature",
    ),
    (
        {"entitlements": [{"type": "boolean", "feature": "calls"}]},
        "entitlement_kind_mismatch",
        "/phases/0/entitlements/0/type",
    ),
    (
        {"prices": [{**CALLS, "price": {"model": "graduated", "tiers": [{"up_to": "5", "unit_amount": "1"}]}}]},
        "tiers_gap",
        "/phases/0/rate_cards/0/price/price/tiers/0/up_to",
    ),
    ({"prices": [FEE, FEE]}, "price_key_repeated", "/phases/0/rate_cards"),
    ({"prices": [{**FEE, "quantity": "NaN"}]}, "not_a_number", "/phases/0/rate_cards/0/price/quantity"),
    ({"phases": []}, "phases_missing", "/phases"),
    (
        {"phases": [{"key": "a", "rate_cards": [{"price": FEE, "timing": "in_advance"}]}]},
        "price_not_billable",
        "/phases/0/rate_cards/0/timing",
    ),
    (
        {"phases": [{"key": "a", "rate_cards": [{"price": FEE, "cadence": {"unit": "year"}}]}]},
        "price_not_billable",
        "/phases/0/rate_cards/0/cadence",
    ),
    (
        {"phases": [{"key": "a", "rate_cards": [{"price": FEE, "cadence": {"unit": "week"}}]}]},
        "cadence_mismatch",
        "/phases/0/rate_cards/0/cadence",
    ),
]


@pytest_asyncio.fixture
async def api(postgres_url: str) -> AsyncIterator[CatalogApi]:
    async with catalog_api(postgres_url, "test_plan_versions") as made:
        await made.made("/v1/meters", {"key": "calls", "event_types": ["api.call"], "aggregation": "count"})
        await made.made("/v1/features", {"key": "calls", "kind": "metered", "meter": "calls"})
        await made.made("/v1/plans", PLAN)
        yield made


def amounts(version: dict[str, Any]) -> dict[str, str]:
    (phase,) = version["phases"]
    return {
        card["price"]["key"]: card["price"]["price"].get("amount", card["price"]["price"].get("unit_amount"))
        for card in phase["rate_cards"]
    }


async def test_new_subscriptions_get_the_newest_published_version_and_those_there_are_keep_theirs(
    api: CatalogApi,
) -> None:
    await api.made("/v1/customers", {"external_id": "globex"})
    sold = {"customer": "globex", "plan": "pro"}
    first = (await api.made("/v1/subscriptions", sold))["plan_version_id"]
    draft = await api.made(VERSIONS, {"prices": [{**FEE, "price": {"model": "flat", "amount": "59"}}, CALLS]})
    assert (draft["version"], draft["status"], amounts(draft)) == (2, "draft", {"base": "59", "calls": "0.01"})
    assert draft["phases"][0]["entitlements"][0]["limit"] == "1000"
    while_draft = await api.send("GET", "/v1/plans/pro")
    assert (while_draft.body["version"], while_draft.body["version_id"]) == (1, first)
    assert (await api.made("/v1/subscriptions", sold))["plan_version_id"] == first

    published = await api.made(f"{VERSIONS}/2/publish", {})
    assert (published["status"], published["id"]) == ("published", draft["id"])
    now = await api.send("GET", "/v1/plans/pro")
    assert (now.body["version"], now.body["prices"][0]["price"]["amount"]) == (2, "59")
    assert now.etag != while_draft.etag
    third = await api.made("/v1/subscriptions", sold)
    assert third["plan_version_id"] == draft["id"]
    held = (await api.send("GET", "/v1/subscriptions")).body["items"]
    assert [one["plan_version_id"] for one in held] == [first, first, draft["id"]]


async def test_a_published_version_is_read_by_closings_as_one_that_a_plan_was_created_with(api: CatalogApi) -> None:
    draft = await api.made(VERSIONS, {})
    await api.made(f"{VERSIONS}/2/publish", {})
    first = (await api.send("GET", f"{VERSIONS}/1")).body
    async with transaction(api.engine) as conn:
        closings = await plan_versions_by_id(conn, [first["id"], draft["id"]])
        cards = await plan_version_cards(conn, [first["id"], draft["id"]])
    one, two = closings[first["id"]], closings[draft["id"]]
    assert [(price.key, price.price, price.meter_id) for price in one.prices] == [
        (price.key, price.price, price.meter_id) for price in two.prices
    ]
    assert (one.entitlements, one.cadence, one.currency) == (two.entitlements, two.cadence, two.currency)
    assert not {price.id for price in one.prices} & {price.id for price in two.prices}
    for version_id, plan in closings.items():
        assert [card.price for card in cards[version_id].phases[0].rate_cards] == list(plan.prices)


async def test_a_draft_is_edited_by_who_has_read_it_and_what_is_published_by_nobody(api: CatalogApi) -> None:
    made = await api.send("POST", VERSIONS, {"family": "main", "level": 2, "cadence": "year"})
    assert (made.body["family"], made.body["level"], made.body["cadence"]) == ("main", 2, {"unit": "year", "count": 1})
    assert {card["cadence"]["unit"] for card in made.body["phases"][0]["rate_cards"]} == {"year"}
    edited = await api.send("PATCH", f"{VERSIONS}/2", {"prices": [FEE]}, if_match=made.etag)
    assert (edited.status, amounts(edited.body), edited.body["family"]) == (200, {"base": "49"}, "main")
    late = await api.send("PATCH", f"{VERSIONS}/2", {"prices": []}, if_match=made.etag)
    assert (late.status, late.code) == (412, "precondition_failed")
    assert (await api.send("POST", f"{VERSIONS}/2/publish", {}, if_match=made.etag)).status == 412
    published = await api.send("POST", f"{VERSIONS}/2/publish", {}, if_match=edited.etag)
    assert published.status == 200, published.body
    for method, path in (("PATCH", "2"), ("POST", "2/publish"), ("PATCH", "1")):
        refused = await api.send(method, f"{VERSIONS}/{path}", {"level": 3})
        assert (refused.status, refused.code) == (409, "version_not_draft")
    assert (await api.send("GET", f"{VERSIONS}/2")).body == published.body


async def test_what_cannot_be_sold_or_billed_stays_a_draft(api: CatalogApi) -> None:
    for patch, code, pointer in NOT_SOLD:
        draft = await api.made(VERSIONS, {**patch, "from_version": 1})
        url = f"{VERSIONS}/{draft['version']}"
        refused = await api.send("POST", f"{url}/publish", {})
        assert (refused.status, refused.code) == (422, code), refused.body
        assert (code, pointer) in [(each["code"], each["pointer"]) for each in refused.body["errors"]]
        assert (await api.send("GET", url)).body == draft
    assert (await api.send("GET", "/v1/plans/pro")).body["version"] == 1


async def test_a_draft_may_name_what_is_created_before_it_is_published_but_nothing_archived(api: CatalogApi) -> None:
    await api.made(VERSIONS, {"prices": [{**CALLS, "meter": "later"}]})
    assert (await api.send("POST", f"{VERSIONS}/2/publish", {})).code == "meter_unknown"
    meter = await api.made("/v1/meters", {"key": "later", "event_types": ["x"], "aggregation": "count"})
    published = await api.made(f"{VERSIONS}/2/publish", {})
    assert published["phases"][0]["rate_cards"][0]["price"]["meter_id"] == meter["id"]
    await api.made(VERSIONS, {})
    assert (await api.send("DELETE", "/v1/meters/later")).status == 204
    assert (await api.send("POST", f"{VERSIONS}/3/publish", {})).code == "meter_unknown"


async def test_a_version_that_bills_a_percentile_stays_a_draft(api: CatalogApi) -> None:
    slow = {"key": "slow", "event_types": ["x"], "aggregation": "percentile", "value_property": "ms"}
    await api.made("/v1/meters", slow)
    await api.made(VERSIONS, {"prices": [{**CALLS, "meter": "slow"}]})
    assert (await api.send("POST", f"{VERSIONS}/2/publish", {})).code == "meter_not_billable"


async def test_phases_and_prices_are_not_told_at_once(api: CatalogApi) -> None:
    phases = [{"key": "a", "duration": {"unit": "month"}}, {"key": "b"}]
    assert (await api.send("POST", VERSIONS, {"prices": [], "phases": phases})).code == "prices_or_phases"
    assert len((await api.made(VERSIONS, {"phases": phases}))["phases"]) == 2
    assert (await api.send("PATCH", f"{VERSIONS}/2", {"prices": [FEE]})).code == "prices_or_phases"
    alone = await api.send("PATCH", f"{VERSIONS}/2", {"phases": [{"key": "b", "rate_cards": [{"price": FEE}]}]})
    assert (alone.status, amounts(alone.body)) == (200, {"base": "49"})


async def test_of_two_publishes_at_once_one_is_made(api: CatalogApi) -> None:
    await api.made(VERSIONS, {})
    answers = await asyncio.gather(*(api.send("POST", f"{VERSIONS}/2/publish", {}) for _ in range(6)))
    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409, 409, 409]
    assert {answer.code for answer in answers} == {"", "version_not_draft"}
    assert len((await api.send("GET", "/v1/plans/pro")).body["prices"]) == 2


async def test_drafts_and_publishes_that_race_end_in_one_order(api: CatalogApi) -> None:
    drafts = await asyncio.gather(*(api.made(VERSIONS, {}) for _ in range(5)))
    assert sorted(draft["version"] for draft in drafts) == [2, 3, 4, 5, 6]
    await asyncio.gather(*(api.made(f"{VERSIONS}/{number}/publish", {}) for number in range(6, 1, -1)))
    assert (await api.send("GET", "/v1/plans/pro")).body["version"] == 6
    edits = await asyncio.gather(api.made(VERSIONS, {}), api.send("PATCH", "/v1/plans/pro", {"name": "Pro 2"}))
    assert edits[0]["version"] == 7


async def test_the_same_key_makes_one_draft_and_publishes_once(api: CatalogApi) -> None:
    first = await api.send("POST", VERSIONS, {"level": 1}, idempotency_key="k-1")
    again = await api.send("POST", VERSIONS, {"level": 1}, idempotency_key="k-1")
    assert (again.body, again.replayed) == (first.body, True)
    assert (await api.send("POST", VERSIONS, {"level": 2}, idempotency_key="k-1")).code == "idempotency_key_reused"
    published = await api.send("POST", f"{VERSIONS}/2/publish", {}, idempotency_key="k-2")
    again = await api.send("POST", f"{VERSIONS}/2/publish", {}, idempotency_key="k-2")
    assert (published.status, again.body) == (200, published.body)
    assert len((await api.send("GET", VERSIONS)).body["items"]) == 2


async def test_an_archived_version_is_not_sold_and_the_one_before_is_again(api: CatalogApi) -> None:
    await api.made(VERSIONS, {})
    assert (await api.send("POST", f"{VERSIONS}/2/archive", {})).code == "plan_not_published"
    await api.made(f"{VERSIONS}/2/publish", {})
    archived = await api.made(f"{VERSIONS}/2/archive", {})
    assert archived["status"] == "archived"
    assert await api.made(f"{VERSIONS}/2/archive", {}) == archived
    assert (await api.send("GET", "/v1/plans/pro")).body["version"] == 1
    await api.made(f"{VERSIONS}/1/archive", {})
    await api.made("/v1/customers", {"external_id": "globex"})
    refused = await api.send("POST", "/v1/subscriptions", {"customer": "globex", "plan": "pro"})
    assert (refused.status, refused.code) == (409, "plan_archived")


async def test_a_draft_is_deleted_and_a_published_version_archived(api: CatalogApi) -> None:
    await api.made(VERSIONS, {})
    assert (await api.send("DELETE", f"{VERSIONS}/2")).status == 204
    assert (await api.send("GET", f"{VERSIONS}/2")).code == "plan_version_not_found"
    assert (await api.send("DELETE", f"{VERSIONS}/1")).status == 204
    assert (await api.send("GET", f"{VERSIONS}/1")).body["status"] == "archived"


async def test_a_clone_is_a_plan_of_its_own_that_is_sold_once_it_is_published(api: CatalogApi) -> None:
    clone = await api.made("/v1/plans/pro/clone", {"key": "pro-2"})
    assert (clone["key"], clone["name"], clone["status"], clone["version"]) == ("pro-2", "Pro", "draft", 1)
    assert (await api.send("DELETE", "/v1/plans/pro-2/versions/1")).code == "only_version"
    source = (await api.send("GET", "/v1/plans/pro")).body
    assert [price["price"] for price in clone["prices"]] == [price["price"] for price in source["prices"]]
    assert not {price["id"] for price in clone["prices"]} & {price["id"] for price in source["prices"]}
    await api.made("/v1/customers", {"external_id": "globex"})
    sold = {"customer": "globex", "plan": "pro-2"}
    assert (await api.send("POST", "/v1/subscriptions", sold)).code == "plan_not_published"
    await api.made("/v1/plans/pro-2/versions/1/publish", {})
    assert (await api.send("POST", "/v1/subscriptions", sold)).status == 201
    assert (await api.send("POST", "/v1/plans/pro/clone", {"key": "pro-2"})).code == "plan_key_taken"
    assert (await api.send("POST", "/v1/plans/pro/clone", {"key": "pla_x"})).code == "key_malformed"


async def test_the_tag_of_a_plan_that_is_not_published_changes_with_its_draft(api: CatalogApi) -> None:
    await api.made("/v1/plans/pro/clone", {"key": "pro-2"})
    shown = [await api.send("GET", "/v1/plans/pro-2")]
    versions = "/v1/plans/pro-2/versions"
    for method, url in (("PATCH", f"{versions}/1"), ("POST", versions), ("DELETE", f"{versions}/2")):
        assert (await api.send(method, url, {"prices": []})).status < 300
        shown.append(await api.send("GET", "/v1/plans/pro-2"))
    assert [(len(one.body["prices"]), one.body["version"]) for one in shown] == [(2, 1), (0, 1), (0, 2), (0, 1)]
    assert len({one.etag for one in shown}) == len(shown)


async def test_an_archived_plan_gets_no_more_versions_and_can_be_cloned(api: CatalogApi) -> None:
    await api.made(VERSIONS, {})
    assert (await api.send("DELETE", "/v1/plans/pro")).status == 204
    for path in ("", "/2/publish"):
        refused = await api.send("POST", VERSIONS + path, {})
        assert (refused.status, refused.code) == (409, "plan_archived")
    assert (await api.made("/v1/plans/pro/clone", {"key": "again", "version": 1}))["archived_at"] is None


async def test_a_plan_is_renamed_and_its_tag_changes(api: CatalogApi) -> None:
    kept = await api.send("GET", "/v1/plans/pro")
    renamed = await api.send("PATCH", "/v1/plans/pro", {"name": "Professional"}, if_match=kept.etag)
    assert (renamed.status, renamed.body["name"], renamed.etag != kept.etag) == (200, "Professional", True)
    assert (await api.send("PATCH", "/v1/plans/pro", {"name": "x"}, if_match=kept.etag)).status == 412


async def test_a_version_that_is_not_there_is_not_found(api: CatalogApi) -> None:
    for version in ("0", "9", "-1", "99999999999999999999", "plv_none", "²", "1.0"):
        for method, path in (("GET", ""), ("PATCH", ""), ("POST", "/publish"), ("POST", "/archive"), ("DELETE", "")):
            sent: dict[str, Any] | None = {} if method in {"PATCH", "POST"} else None
            answer = await api.send(method, f"{VERSIONS}/{quote(version)}{path}", sent)
            assert (answer.status, answer.code) == (404, "plan_version_not_found"), (method, version)
        refused = await api.send("POST", VERSIONS, {"from_version": version})
        assert (refused.status, refused.code) == (404, "plan_version_not_found")


async def test_versions_are_listed_by_page_and_belong_to_one_plan(api: CatalogApi) -> None:
    other = await api.made("/v1/plans/pro/clone", {"key": "other"})
    for _ in range(2):
        await api.made(VERSIONS, {})
    first = (await api.send("GET", f"{VERSIONS}?limit=2")).body
    rest = (await api.send("GET", f"{VERSIONS}?limit=2&cursor={first['next_cursor']}")).body
    assert [one["version"] for one in first["items"] + rest["items"]] == [1, 2, 3]
    assert rest["next_cursor"] is None
    assert (await api.send("GET", f"{VERSIONS}/{other['version_id']}")).code == "plan_version_not_found"
    assert (await api.send("GET", "/v1/plans/none/versions")).code == "plan_not_found"
