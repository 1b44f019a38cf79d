"""`/v1/addons` and its versions on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from stores.postgres.addons import addon_versions_by_id
from stores.postgres.engine import transaction
from tests.support.catalog_api import CatalogApi, catalog_api

MONTH = {"unit": "month"}
SPACE = {
    "price": {"key": "space", "price": {"model": "flat", "amount": "5"}},
    "cadence": MONTH,
    "timing": "in_advance",
}
USED = {
    "price": {"key": "used", "meter": "calls", "price": {"model": "per_unit", "unit_amount": "0.01"}},
    "cadence": MONTH,
}
ADDON = {
    "key": "storage",
    "name": "Storage",
    "currency": "EUR",
    "max_quantity": 10,
    "plans": ["pro"],
    "rate_cards": [SPACE, USED],
    "entitlements": [{"type": "metered", "feature": "calls", "limit": "500"}],
}
VERSIONS = "/v1/addons/storage/versions"
MATRIX = {"model": "matrix", "dimensions": ["m"], "cells": [], "default_unit_amount": "1"}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"key": "add_x"}, "key_malformed"),
    ({"currency": "eur"}, "unknown_currency"),
    ({"rate_cards": [], "entitlements": []}, "rate_cards_missing"),
    ({"rate_cards": [{"price": SPACE["price"]}]}, "cadence_missing"),
    ({"rate_cards": [SPACE, SPACE]}, "price_key_repeated"),
    ({"rate_cards": [{**USED, "timing": "in_advance"}]}, "usage_in_advance"),
    ({"rate_cards": [{**USED, "price": {"key": "used", "meter": "none", "price": MATRIX}}]}, "meter_unknown"),
    ({"rate_cards": [{**USED, "price": {"key": "used", "meter": "calls", "price": MATRIX}}]}, "price_not_billable"),
    ({"entitlements": [{"type": "boolean", "feature": "none"}]}, "feature_unknown"),
    ({"max_quantity": 0}, "addon_quantity_out_of_range"),
    ({"plans": ["pro", "none"]}, "plan_unknown"),
]


@pytest_asyncio.fixture
async def api(postgres_url: str) -> AsyncIterator[CatalogApi]:
    async with catalog_api(postgres_url, "test_addons_api") as made:
        await made.made("/v1/meters", {"key": "calls", "event_types": ["api.call"], "aggregation": "count"})
        await made.made("/v1/features", {"key": "calls", "kind": "metered", "meter": "calls"})
        await made.made("/v1/plans", {"key": "pro", "currency": "EUR"})
        yield made


async def test_an_add_on_is_created_read_listed_renamed_and_archived(api: CatalogApi) -> None:
    created = await api.send("POST", "/v1/addons", ADDON, idempotency_key="k-1")
    assert (created.status, created.body["version"], created.body["status"]) == (201, 1, "published")
    again = await api.send("POST", "/v1/addons", ADDON, idempotency_key="k-1")
    assert (again.body, again.replayed) == (created.body, True)
    assert (await api.send("POST", "/v1/addons", ADDON)).code == "addon_key_taken"
    meter = (await api.send("GET", "/v1/meters/calls")).body["id"]
    assert [card["price"]["meter_id"] for card in created.body["rate_cards"]] == [None, meter]
    feature = (await api.send("GET", "/v1/features/calls")).body["id"]
    assert created.body["entitlements"][0]["feature"] == feature
    for reference in ("storage", created.body["id"]):
        assert (await api.send("GET", f"/v1/addons/{reference}")).body == created.body
    assert (await api.send("GET", "/v1/addons")).body["items"] == [created.body]
    renamed = await api.send("PATCH", "/v1/addons/storage", {"name": "Space"}, if_match=created.etag)
    assert (renamed.status, renamed.body["name"]) == (200, "Space")
    assert (await api.send("DELETE", "/v1/addons/storage", if_match=created.etag)).status == 412
    assert (await api.send("DELETE", "/v1/addons/storage", if_match=renamed.etag)).status == 204
    assert (await api.send("GET", "/v1/addons")).body["items"] == []
    assert (await api.send("GET", "/v1/addons/storage")).body["archived_at"] is not None
    assert (await api.send("GET", "/v1/addons/none")).code == "addon_not_found"


async def test_plans_are_kept_by_key_each_once(api: CatalogApi) -> None:
    plan = (await api.send("GET", "/v1/plans/pro")).body
    created = await api.made("/v1/addons", {**ADDON, "plans": [plan["id"], "pro"]})
    assert created["plans"] == ["pro"]


async def test_what_cannot_be_sold_or_billed_is_not_created(api: CatalogApi) -> None:
    for wrong, code in REFUSED:
        refused = await api.send("POST", "/v1/addons", {**ADDON, **wrong})
        assert (refused.status, refused.code) == (422, code), (wrong, refused.body)
    assert (await api.send("GET", "/v1/addons")).body["items"] == []


async def test_a_version_is_drafted_edited_published_and_archived(api: CatalogApi) -> None:
    first = await api.made("/v1/addons", ADDON)
    draft = await api.send("POST", VERSIONS, {"max_quantity": None})
    assert (draft.body["version"], draft.body["status"], draft.body["max_quantity"]) == (2, "draft", None)
    assert len(draft.body["rate_cards"]) == 2
    edited = await api.send("PATCH", f"{VERSIONS}/2", {"rate_cards": [SPACE], "plans": []}, if_match=draft.etag)
    assert (edited.status, edited.body["plans"], edited.body["max_quantity"]) == (200, [], None)
    assert (await api.send("PATCH", f"{VERSIONS}/2", {}, if_match=draft.etag)).status == 412
    assert (await api.send("PATCH", f"{VERSIONS}/2", {"plans": ["none"]})).code == "plan_unknown"
    assert (await api.send("GET", "/v1/addons/storage")).body["version"] == 1
    published = await api.made(f"{VERSIONS}/2/publish", {})
    assert published["status"] == "published"
    assert (await api.send("GET", "/v1/addons/storage")).body["version_id"] == published["id"]
    for method, path in (("PATCH", "2"), ("POST", "2/publish"), ("PATCH", "1")):
        assert (await api.send(method, f"{VERSIONS}/{path}", {"plans": []})).code == "version_not_draft"
    archived = await api.made(f"{VERSIONS}/2/archive", {})
    assert await api.made(f"{VERSIONS}/2/archive", {}) == archived
    assert (await api.send("GET", "/v1/addons/storage")).body["version"] == 1
    assert [one["status"] for one in (await api.send("GET", VERSIONS)).body["items"]] == ["published", "archived"]
    async with transaction(api.engine) as conn:
        read = await addon_versions_by_id(conn, [first["version_id"], published["id"]])
    assert {one.version: one.status for one in read.values()} == {1: "published", 2: "archived"}


async def test_a_draft_that_cannot_be_sold_stays_a_draft_and_can_be_deleted(api: CatalogApi) -> None:
    await api.made("/v1/addons", ADDON)
    await api.made(VERSIONS, {"rate_cards": [{**USED, "timing": "in_advance"}]})
    assert (await api.send("POST", f"{VERSIONS}/2/publish", {})).code == "usage_in_advance"
    assert (await api.send("POST", f"{VERSIONS}/2/archive", {})).code == "addon_not_published"
    assert (await api.send("DELETE", f"{VERSIONS}/2")).status == 204
    assert (await api.send("GET", f"{VERSIONS}/2")).code == "addon_version_not_found"
    assert (await api.send("POST", VERSIONS, {"rate_cards": [{"price": SPACE["price"]}]})).code == "cadence_missing"
    assert (await api.send("DELETE", f"{VERSIONS}/1")).status == 204
    assert (await api.send("GET", f"{VERSIONS}/1")).body["status"] == "archived"


async def test_drafts_and_publishes_that_race_end_in_one_order(api: CatalogApi) -> None:
    await api.made("/v1/addons", ADDON)
    drafts = await asyncio.gather(*(api.made(VERSIONS, {}) for _ in range(4)))
    assert sorted(draft["version"] for draft in drafts) == [2, 3, 4, 5]
    answers = await asyncio.gather(*(api.send("POST", f"{VERSIONS}/3/publish", {}) for _ in range(4)))
    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409]


async def test_an_archived_add_on_gets_no_more_versions(api: CatalogApi) -> None:
    await api.made("/v1/addons", ADDON)
    await api.made(VERSIONS, {})
    assert (await api.send("DELETE", "/v1/addons/storage")).status == 204
    for path in ("", "/2/publish"):
        refused = await api.send("POST", VERSIONS + path, {})
        assert (refused.status, refused.code) == (409, "addon_archived")
