"""`/v1/plans`: prices and entitlements that are sold together."""

from typing import Any

from litestar import Controller, Request, Response, delete, get, patch, post
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Principal, require
from api.conventions import Created, Page, PageLimit, check_match, created_once, page_of, tagged
from api.deps import ApiDeps
from domain.keys import validate_key
from domain.meter_rules import check_billable
from domain.plan_versions import clone
from domain.plans import check_entitlements, validate_plan
from schemas.entitlements import EntitlementSpec
from schemas.plan_drafts import PlanClone, PlanPatch
from schemas.plans import Plan, PlanSpec
from schemas.prices import PlanPrice, PlanPriceSpec
from schemas.scope import Scope
from stores.postgres import features, meters, plan_drafts, plans
from stores.postgres.engine import transaction

PREFIX = "pla"


class PlansController(Controller):
    path = "/v1/plans"
    tags = ("plans",)

    @post("/", guards=[require("catalog:write")])
    async def create(
        self, request: Request[Any, Any, Any], data: PlanSpec, principal: Principal, deps: ApiDeps
    ) -> Response[Plan]:
        """Creates the plan with version 1, published."""
        validate_plan(data, PREFIX)

        async def create(conn: AsyncConnection) -> Created:
            plan = Plan(
                id=deps.ids.new(PREFIX),
                key=data.key,
                name=data.name,
                currency=data.currency,
                version=1,
                version_id=deps.ids.new("plv"),
                status="published",
                cadence=data.cadence,
                prices=tuple(
                    [await _price(conn, deps, principal.scope, data, *each) for each in enumerate(data.prices)]
                ),
                entitlements=await _entitlements(conn, principal.scope, data.entitlements),
                revision=1,
                created_at=deps.clock.now(),
                archived_at=None,
            )
            await plans.create_plan(conn, principal.scope, plan)
            return plan

        return await created_once(request, deps, principal, create)

    @get("/", guards=[require("catalog:read")])
    async def list(
        self, principal: Principal, deps: ApiDeps, limit: PageLimit = 50, cursor: str | None = None
    ) -> Page[Plan]:
        async with transaction(deps.engine) as conn:
            found = await plans.list_plans(conn, principal.scope, limit=limit, after=cursor)
        return page_of(found, limit)

    @get("/{plan:str}", guards=[require("catalog:read")])
    async def get(self, plan: str, principal: Principal, deps: ApiDeps) -> Response[Plan]:
        async with transaction(deps.engine) as conn:
            return tagged(await plans.get_plan(conn, principal.scope, plan))

    @patch("/{plan:str}", guards=[require("catalog:write")])
    async def rename(
        self, request: Request[Any, Any, Any], plan: str, data: PlanPatch, principal: Principal, deps: ApiDeps
    ) -> Response[Plan]:
        """Only the name: what a plan sells is changed by a new version."""
        async with transaction(deps.engine) as conn:
            kept = await plan_drafts.lock_plan(conn, principal.scope, plan)
            check_match(request, kept.revision)
            await plan_drafts.rename_plan(conn, kept, data.name)
            return tagged(await plans.get_plan(conn, principal.scope, kept.id))

    @post("/{plan:str}/clone", guards=[require("catalog:write")])
    async def clone(
        self, request: Request[Any, Any, Any], plan: str, data: PlanClone, principal: Principal, deps: ApiDeps
    ) -> Response[Plan]:
        """Another plan whose version 1, a draft, says the same with prices of its own."""
        validate_key(data.key, PREFIX)

        async def copy(conn: AsyncConnection) -> Created:
            scope, now = principal.scope, deps.clock.now()
            head = await plans.get_plan(conn, scope, plan)
            wanted = head.version_id if data.version is None else str(data.version)
            source = await plan_drafts.get_version(conn, scope, head.id, wanted)
            name = head.name if data.name is None else data.name
            new_id = deps.ids.new
            draft = clone(source, plan_id=new_id(PREFIX), key=data.key, name=name, number=1, new_id=new_id)
            made = replace(head, id=draft.plan_id, key=data.key, name=name, created_at=now)
            await plans.insert_plan(conn, scope, made)
            await plan_drafts.insert_draft(conn, draft, now)
            return await plans.get_plan(conn, scope, made.id)

        return await created_once(request, deps, principal, copy)

    @delete("/{plan:str}", guards=[require("catalog:write")])
    async def archive(self, request: Request[Any, Any, Any], plan: str, principal: Principal, deps: ApiDeps) -> None:
        """It is not sold any more; subscriptions that hold it keep it."""
        async with transaction(deps.engine) as conn:
            kept = await plan_drafts.lock_plan(conn, principal.scope, plan)
            check_match(request, kept.revision)
            await plans.archive_plan(conn, principal.scope, kept, deps.clock.now())


async def _price(
    conn: AsyncConnection, deps: ApiDeps, scope: Scope, plan: PlanSpec, position: int, spec: PlanPriceSpec
) -> PlanPrice:
    return PlanPrice(
        id=deps.ids.new("pri"),
        key=spec.key,
        name=spec.name,
        currency=plan.currency,
        price=spec.price,
        meter_id=await _meter_id(conn, scope, spec.meter, f"/prices/{position}/meter"),
        quantity=spec.quantity,
    )


async def _meter_id(conn: AsyncConnection, scope: Scope, reference: str | None, pointer: str) -> str | None:
    if reference is None:
        return None
    meter = await meters.get_meter(conn, scope, reference)
    check_billable(meter, pointer)
    return meter.id


async def _entitlements(
    conn: AsyncConnection, scope: Scope, specs: tuple[EntitlementSpec, ...]
) -> tuple[EntitlementSpec, ...]:
    """The same with feature ids in place of keys."""
    named = {each.feature: await features.get_feature(conn, scope, each.feature) for each in specs}
    check_entitlements(specs, named)
    return tuple(replace(each, feature=named[each.feature].id) for each in specs)
