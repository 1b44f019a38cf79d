"""`/v1/addons`: what is sold on top of a plan, in a quantity."""

from typing import Any

from litestar import Controller, Request, Response, delete, get, patch, post
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Principal, require
from api.catalog_references import look_up
from api.conventions import Created, Page, PageLimit, check_match, created_once, page_of, tagged
from api.deps import ApiDeps
from domain.addon_versions import draft_addon, named_plans, publish_addon
from domain.plan_validation import validate_addon
from schemas.addons import Addon, AddonPatch, AddonSpec
from stores.postgres import addon_drafts, addons
from stores.postgres.engine import transaction

PREFIX = "add"


class AddonsController(Controller):
    path = "/v1/addons"
    tags = ("addons",)

    @post("/", guards=[require("catalog:write")])
    async def create(
        self, request: Request[Any, Any, Any], data: AddonSpec, principal: Principal, deps: ApiDeps
    ) -> Response[Addon]:
        """Creates the add-on with version 1, published."""

        async def create(conn: AsyncConnection) -> Created:
            scope, now = principal.scope, deps.clock.now()
            named = await look_up(conn, scope, data.rate_cards, data.entitlements)
            validate_addon(data, named.catalog)
            known = await addon_drafts.plan_keys_named(conn, scope, data.plans)
            draft = draft_addon(
                replace(data, plans=named_plans(data.plans, known)),
                addon_id=deps.ids.new(PREFIX),
                version=1,
                features={},
                meters={},
                new_id=deps.ids.new,
            )
            made = publish_addon(draft, named.catalog, named.meter_ids, now)
            await addons.create_addon(conn, scope, made, now)
            return await addons.get_addon(conn, scope, made.addon_id)

        return await created_once(request, deps, principal, create)

    @get("/", guards=[require("catalog:read")])
    async def list(
        self, principal: Principal, deps: ApiDeps, limit: PageLimit = 50, cursor: str | None = None
    ) -> Page[Addon]:
        async with transaction(deps.engine) as conn:
            found = await addons.list_addons(conn, principal.scope, limit=limit, after=cursor)
        return page_of(found, limit)

    @get("/{addon:str}", guards=[require("catalog:read")])
    async def get(self, addon: str, principal: Principal, deps: ApiDeps) -> Response[Addon]:
        async with transaction(deps.engine) as conn:
            return tagged(await addons.get_addon(conn, principal.scope, addon))

    @patch("/{addon:str}", guards=[require("catalog:write")])
    async def rename(
        self, request: Request[Any, Any, Any], addon: str, data: AddonPatch, principal: Principal, deps: ApiDeps
    ) -> Response[Addon]:
        """Only the name: what an add-on sells is changed by a new version."""
        async with transaction(deps.engine) as conn:
            kept = await addon_drafts.lock_addon(conn, principal.scope, addon)
            check_match(request, kept.revision)
            await addons.rename_addon(conn, principal.scope, kept, data.name)
            return tagged(await addons.get_addon(conn, principal.scope, kept.id))

    @delete("/{addon:str}", guards=[require("catalog:write")])
    async def archive(self, request: Request[Any, Any, Any], addon: str, principal: Principal, deps: ApiDeps) -> None:
        """It is not sold any more; subscriptions that hold it keep it."""
        async with transaction(deps.engine) as conn:
            kept = await addon_drafts.lock_addon(conn, principal.scope, addon)
            check_match(request, kept.revision)
            await addons.archive_addon(conn, principal.scope, kept, deps.clock.now())
