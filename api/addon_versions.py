"""`/v1/addons/{addon}/versions`: drafts, what is published of them, and what is not sold any more."""

from typing import Any

from litestar import Controller, Request, Response, delete, get, patch, post
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Principal, require
from api.catalog_references import look_up
from api.conventions import Created, Page, PageLimit, check_match, created_once, page_of, tagged
from api.deps import ApiDeps
from domain.addon_versions import (
    addon_spec_of,
    archive_addon_version,
    check_addon_open,
    draft_addon,
    named_plans,
    publish_addon,
    revised_addon,
)
from domain.plan_versions import check_editable
from schemas.addons import AddonSpec, AddonVersion, AddonVersionDraft, AddonVersionPatch, KeptAddonVersion
from schemas.scope import Scope
from stores.postgres import addon_drafts, addons
from stores.postgres.engine import transaction


class AddonVersionsController(Controller):
    path = "/v1/addons/{addon:str}/versions"
    tags = ("addons",)

    @post("/", guards=[require("catalog:write")])
    async def create(
        self, request: Request[Any, Any, Any], addon: str, data: AddonVersionDraft, principal: Principal, deps: ApiDeps
    ) -> Response[KeptAddonVersion]:
        """A draft: a copy of the version that is sold now, or of `from_version`, with what the body says in its place."""

        async def create(conn: AsyncConnection) -> Created:
            scope = principal.scope
            head = await addon_drafts.lock_addon(conn, scope, addon)
            check_addon_open(head)
            wanted = str(head.version_id if data.from_version is None else data.from_version)
            base = await addon_drafts.get_addon_version(conn, scope, head.id, wanted)
            number = await addon_drafts.next_addon_number(conn, head.id)
            draft = await _drafted(conn, deps, scope, revised_addon(addon_spec_of(base), data), head.id, number)
            await addons.insert_addon_version(conn, draft, deps.clock.now())
            await addon_drafts.touch_addon(conn, head.id)
            return await addon_drafts.get_addon_version(conn, scope, head.id, draft.id)

        return await created_once(request, deps, principal, create)

    @get("/", guards=[require("catalog:read")])
    async def list(
        self, addon: str, principal: Principal, deps: ApiDeps, limit: PageLimit = 50, cursor: str | None = None
    ) -> Page[KeptAddonVersion]:
        """Drafts, published and archived ones, oldest first."""
        async with transaction(deps.engine) as conn:
            head = await addons.get_addon(conn, principal.scope, addon)
            found = await addon_drafts.list_addon_versions(conn, principal.scope, head.id, limit=limit, after=cursor)
        return page_of(found, limit)

    @get("/{version:str}", guards=[require("catalog:read")])
    async def get(self, addon: str, version: str, principal: Principal, deps: ApiDeps) -> Response[KeptAddonVersion]:
        """By number or id."""
        async with transaction(deps.engine) as conn:
            head = await addons.get_addon(conn, principal.scope, addon)
            return tagged(await addon_drafts.get_addon_version(conn, principal.scope, head.id, version))

    @patch("/{version:str}", guards=[require("catalog:write")])
    async def change(
        self,
        request: Request[Any, Any, Any],
        addon: str,
        version: str,
        data: AddonVersionPatch,
        principal: Principal,
        deps: ApiDeps,
    ) -> Response[KeptAddonVersion]:
        """Edits a draft; what was published never changes. Its prices have new ids until it is published."""
        async with transaction(deps.engine) as conn:
            kept = await _locked(conn, request, principal.scope, addon, version)
            check_editable(kept)
            spec = revised_addon(addon_spec_of(kept), data)
            draft = await _drafted(conn, deps, principal.scope, spec, kept.addon_id, kept.version)
            await addon_drafts.change_addon_version(conn, replace(draft, id=kept.id))
            return tagged(await addon_drafts.get_addon_version(conn, principal.scope, kept.addon_id, kept.id))

    @post("/{version:str}/publish", guards=[require("catalog:write")])
    async def publish(
        self, request: Request[Any, Any, Any], addon: str, version: str, principal: Principal, deps: ApiDeps
    ) -> Response[KeptAddonVersion]:
        """Checks all that the draft says; it is what is sold from now on. Who holds another version keeps it."""

        async def publish(conn: AsyncConnection) -> Created:
            scope = principal.scope
            kept = await _locked(conn, request, scope, addon, version)
            check_addon_open(await addons.get_addon(conn, scope, kept.addon_id))
            spec = addon_spec_of(kept)
            named = await look_up(conn, scope, spec.rate_cards, spec.entitlements)
            made = publish_addon(kept, named.catalog, named.meter_ids, deps.clock.now())
            await addon_drafts.change_addon_version(conn, made)
            return await addon_drafts.get_addon_version(conn, scope, kept.addon_id, kept.id)

        return await created_once(request, deps, principal, publish, status_code=200)

    @post("/{version:str}/archive", guards=[require("catalog:write")])
    async def archive(
        self, request: Request[Any, Any, Any], addon: str, version: str, principal: Principal, deps: ApiDeps
    ) -> Response[KeptAddonVersion]:
        """It is not sold any more; subscriptions that hold it keep it. Repeating it changes nothing."""

        async def archive(conn: AsyncConnection) -> Created:
            kept = await _locked(conn, request, principal.scope, addon, version)
            await _archive(conn, kept, deps)
            return await addon_drafts.get_addon_version(conn, principal.scope, kept.addon_id, kept.id)

        return await created_once(request, deps, principal, archive, status_code=200)

    @delete("/{version:str}", guards=[require("catalog:write")])
    async def delete(
        self, request: Request[Any, Any, Any], addon: str, version: str, principal: Principal, deps: ApiDeps
    ) -> None:
        """A draft is gone: nothing refers to it. A version that was published is archived."""
        async with transaction(deps.engine) as conn:
            kept = await _locked(conn, request, principal.scope, addon, version)
            if kept.status == "draft":
                await addon_drafts.delete_addon_draft(conn, kept)
            else:
                await _archive(conn, kept, deps)


async def _locked(
    conn: AsyncConnection, request: Request[Any, Any, Any], scope: Scope, addon: str, version: str
) -> KeptAddonVersion:
    """The version as `If-Match` asks for it, with its add-on locked."""
    head = await addon_drafts.lock_addon(conn, scope, addon)
    kept = await addon_drafts.get_addon_version(conn, scope, head.id, version)
    check_match(request, kept.revision)
    return kept


async def _archive(conn: AsyncConnection, kept: KeptAddonVersion, deps: ApiDeps) -> None:
    archived = archive_addon_version(kept, deps.clock.now())
    if archived.status != kept.status:
        await addon_drafts.change_addon_version(conn, archived)


async def _drafted(
    conn: AsyncConnection, deps: ApiDeps, scope: Scope, spec: AddonSpec, addon_id: str, number: int
) -> AddonVersion:
    named = await look_up(conn, scope, spec.rate_cards, spec.entitlements)
    known = await addon_drafts.plan_keys_named(conn, scope, spec.plans)
    return draft_addon(
        replace(spec, plans=named_plans(spec.plans, known)),
        addon_id=addon_id,
        version=number,
        features=named.features,
        meters=named.meter_ids,
        new_id=deps.ids.new,
    )
