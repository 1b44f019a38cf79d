"""`/v1/plans/{plan}/versions`: drafts, what is published of them, and what is not sold any more."""

from typing import Any

from litestar import Controller, Request, Response, delete, get, patch, post
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Principal, require
from api.catalog_references import Named, look_up
from api.conventions import Created, Page, PageLimit, check_match, created_once, page_of, tagged
from api.deps import ApiDeps
from domain.plan_billable import check_version_billable
from domain.plan_drafts import cards_of, check_open, entitlements_of, resolved, revised
from domain.plan_versions import archive, check_editable, draft_version, publish, spec_of
from schemas.plan_drafts import PlanVersionDraft, PlanVersionPatch
from schemas.plan_phases import KeptPlanVersion, PlanVersion, PlanVersionSpec
from schemas.scope import Scope
from stores.postgres import plan_drafts, plans
from stores.postgres.engine import transaction


class PlanVersionsController(Controller):
    path = "/v1/plans/{plan:str}/versions"
    tags = ("plans",)

    @post("/", guards=[require("catalog:write")])
    async def create(
        self, request: Request[Any, Any, Any], plan: str, data: PlanVersionDraft, principal: Principal, deps: ApiDeps
    ) -> Response[KeptPlanVersion]:
        """A draft: a copy of the version that is sold now, or of `from_version`, with what the body says in its place."""

        async def create(conn: AsyncConnection) -> Created:
            scope = principal.scope
            head = await plan_drafts.lock_plan(conn, scope, plan)
            check_open(head)
            base = str(head.version_id if data.from_version is None else data.from_version)
            spec = revised(spec_of(await plan_drafts.get_version(conn, scope, head.id, base)), data)
            number = await plan_drafts.next_number(conn, head.id)
            draft = await _drafted(conn, deps, scope, spec, head.id, number)
            await plan_drafts.insert_draft(conn, draft, deps.clock.now())
            await plan_drafts.touch_plan(conn, head.id)
            return await plan_drafts.get_version(conn, scope, head.id, draft.id)

        return await created_once(request, deps, principal, create)

    @get("/", guards=[require("catalog:read")])
    async def list(
        self, plan: str, principal: Principal, deps: ApiDeps, limit: PageLimit = 50, cursor: str | None = None
    ) -> Page[KeptPlanVersion]:
        """Drafts, published and archived ones, oldest first."""
        async with transaction(deps.engine) as conn:
            head = await plans.get_plan(conn, principal.scope, plan)
            found = await plan_drafts.list_versions(conn, principal.scope, head.id, limit=limit, after=cursor)
        return page_of(found, limit)

    @get("/{version:str}", guards=[require("catalog:read")])
    async def get(self, plan: str, version: str, principal: Principal, deps: ApiDeps) -> Response[KeptPlanVersion]:
        """By number or id."""
        async with transaction(deps.engine) as conn:
            head = await plans.get_plan(conn, principal.scope, plan)
            return tagged(await plan_drafts.get_version(conn, principal.scope, head.id, version))

    @patch("/{version:str}", guards=[require("catalog:write")])
    async def change(
        self,
        request: Request[Any, Any, Any],
        plan: str,
        version: str,
        data: PlanVersionPatch,
        principal: Principal,
        deps: ApiDeps,
    ) -> Response[KeptPlanVersion]:
        """Edits a draft; what was published never changes. Its prices have new ids until it is published."""
        async with transaction(deps.engine) as conn:
            kept = await _locked(conn, request, principal.scope, plan, version)
            check_editable(kept)
            spec = revised(spec_of(kept), data)
            draft = await _drafted(conn, deps, principal.scope, spec, kept.plan_id, kept.version)
            await plan_drafts.edit_draft(conn, replace(draft, id=kept.id))
            return tagged(await plan_drafts.get_version(conn, principal.scope, kept.plan_id, kept.id))

    @post("/{version:str}/publish", guards=[require("catalog:write")])
    async def publish(
        self, request: Request[Any, Any, Any], plan: str, version: str, principal: Principal, deps: ApiDeps
    ) -> Response[KeptPlanVersion]:
        """Checks all that the draft says; new subscriptions get it from now on, those that there are keep theirs."""

        async def publish_it(conn: AsyncConnection) -> Created:
            scope = principal.scope
            kept = await _locked(conn, request, scope, plan, version)
            check_open(await plans.get_plan(conn, scope, kept.plan_id))
            named = await _named(conn, scope, spec_of(kept))
            made = publish(kept, named.catalog, now := deps.clock.now())
            check_version_billable(spec_of(made))
            made = resolved(made, named.features, named.meter_ids)
            await plan_drafts.publish_draft(conn, scope, made, now)
            return await plan_drafts.get_version(conn, scope, kept.plan_id, kept.id)

        return await created_once(request, deps, principal, publish_it, status_code=200)

    @post("/{version:str}/archive", guards=[require("catalog:write")])
    async def archive(
        self, request: Request[Any, Any, Any], plan: str, version: str, principal: Principal, deps: ApiDeps
    ) -> Response[KeptPlanVersion]:
        """It is not sold any more; subscriptions that hold it keep it. Repeating it changes nothing."""

        async def archive_it(conn: AsyncConnection) -> Created:
            kept = await _locked(conn, request, principal.scope, plan, version)
            await _archive(conn, kept, deps)
            return await plan_drafts.get_version(conn, principal.scope, kept.plan_id, kept.id)

        return await created_once(request, deps, principal, archive_it, status_code=200)

    @delete("/{version:str}", guards=[require("catalog:write")])
    async def delete(
        self, request: Request[Any, Any, Any], plan: str, version: str, principal: Principal, deps: ApiDeps
    ) -> None:
        """A draft is gone: nothing refers to it. A version that was published is archived."""
        async with transaction(deps.engine) as conn:
            kept = await _locked(conn, request, principal.scope, plan, version)
            if kept.status == "draft":
                await plan_drafts.check_not_only(conn, kept)
                await plan_drafts.delete_draft(conn, kept)
            else:
                await _archive(conn, kept, deps)


async def _locked(
    conn: AsyncConnection, request: Request[Any, Any, Any], scope: Scope, plan: str, version: str
) -> KeptPlanVersion:
    """The version as `If-Match` asks for it, with its plan locked."""
    head = await plan_drafts.lock_plan(conn, scope, plan)
    kept = await plan_drafts.get_version(conn, scope, head.id, version)
    check_match(request, kept.revision)
    return kept


async def _archive(conn: AsyncConnection, kept: KeptPlanVersion, deps: ApiDeps) -> None:
    archived = archive(kept, deps.clock.now())
    if archived.status != kept.status:
        await plan_drafts.archive_version(conn, archived)


async def _named(conn: AsyncConnection, scope: Scope, spec: PlanVersionSpec) -> Named:
    return await look_up(conn, scope, cards_of(spec), entitlements_of(spec))


async def _drafted(
    conn: AsyncConnection, deps: ApiDeps, scope: Scope, spec: PlanVersionSpec, plan_id: str, number: int
) -> PlanVersion:
    named = await _named(conn, scope, spec)
    return draft_version(
        spec,
        plan_id=plan_id,
        version=number,
        features=named.features,
        meters=named.meter_ids,
        new_id=deps.ids.new,
    )
