"""`/v1/subscriptions/{subscription}/...`: what can be done to a subscription, and the history of what was done."""

import re
from typing import Any

from litestar import Controller, Request, Response, get, post
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Principal, require
from api.conventions import Created, Page, PageLimit, created_once
from api.deps import ApiDeps
from api.subscription_amend import amend, preview
from domain.errors import Conflict, Invalid, invalid_field
from domain.plans import check_sold
from domain.subscriptions.asked import Asked, cancel_asked, change_asked, pause_asked, resume_asked
from schemas.subscription_changes import ChangeRecord
from schemas.subscription_life import ChangePreview
from schemas.subscription_requests import CancelSpec, ChangeSpec, PauseSpec, ResumeSpec
from schemas.subscriptions import Subscription
from stores.postgres import plans, subscriptions
from stores.postgres.addons import addon_versions_by_id, get_addon
from stores.postgres.engine import transaction
from stores.postgres.subscription_history import history_page

_Request = Request[Any, Any, Any]
_CURSOR = re.compile("[0-9]{1,9}")


class SubscriptionChangesController(Controller):
    path = "/v1/subscriptions/{subscription:str}"
    tags = ("subscriptions",)

    @get("/history", guards=[require("subscriptions:read")])
    async def history(
        self, subscription: str, principal: Principal, deps: ApiDeps, limit: PageLimit = 50, cursor: str | None = None
    ) -> Page[ChangeRecord]:
        """Every change, oldest first: who made it and when, what it is, when it takes effect, and why."""
        after = _revision(cursor)
        async with transaction(deps.engine) as conn:
            held = await subscriptions.get_subscription(conn, principal.scope, subscription, deps.clock.now())
            found = await history_page(conn, held.id, limit=limit, after=after)
        items = found[:limit]
        return Page(items=items, next_cursor=str(items[-1].revision) if len(found) > limit else None)

    @post("/cancel", guards=[require("subscriptions:write")], status_code=200)
    async def cancel(
        self,
        request: _Request,
        subscription: str,
        principal: Principal,
        deps: ApiDeps,
        data: CancelSpec | None = None,
    ) -> Response[Subscription]:
        """Ends it: with the billing period that is running, unless told otherwise. Repeating it changes nothing."""
        spec = data or CancelSpec()
        asked = cancel_asked(spec)

        async def cancel(conn: AsyncConnection) -> Created:
            held = await subscriptions.get_subscription(
                conn, principal.scope, subscription, deps.clock.now(), for_update=True
            )
            if held.status == "ended" and not spec.undo:
                return held
            return await amend(conn, request, deps, principal, subscription, asked)

        return await created_once(request, deps, principal, cancel, status_code=200)

    @post("/pause", guards=[require("subscriptions:write")], status_code=200)
    async def pause(
        self,
        request: _Request,
        subscription: str,
        principal: Principal,
        deps: ApiDeps,
        data: PauseSpec | None = None,
    ) -> Response[Subscription]:
        """Nothing is charged and nothing granted until it is resumed."""
        return await _made(request, deps, principal, subscription, pause_asked(data or PauseSpec()))

    @post("/resume", guards=[require("subscriptions:write")], status_code=200)
    async def resume(
        self,
        request: _Request,
        subscription: str,
        principal: Principal,
        deps: ApiDeps,
        data: ResumeSpec | None = None,
    ) -> Response[Subscription]:
        """The pause that holds then ends."""
        return await _made(request, deps, principal, subscription, resume_asked(data or ResumeSpec()))

    @post("/change", guards=[require("subscriptions:write")], status_code=200)
    async def change(
        self, request: _Request, subscription: str, data: ChangeSpec, principal: Principal, deps: ApiDeps
    ) -> Response[Subscription]:
        """Another plan, quantities, the end of the trial, or a planned change taken back: all of it, or none."""

        async def change(conn: AsyncConnection) -> Created:
            asked = await _change(conn, deps, principal, subscription, data)
            return await amend(conn, request, deps, principal, subscription, asked)

        return await created_once(request, deps, principal, change, status_code=200)

    @post("/change/preview", guards=[require("subscriptions:read")], status_code=200)
    async def preview(
        self, request: _Request, subscription: str, data: ChangeSpec, principal: Principal, deps: ApiDeps
    ) -> ChangePreview:
        """What the change would charge and give back. Safe to repeat: it changes nothing."""
        async with transaction(deps.engine) as conn:
            asked = await _change(conn, deps, principal, subscription, data)
            return await preview(conn, request, deps, principal, subscription, asked)


async def _made(
    request: _Request, deps: ApiDeps, principal: Principal, subscription: str, asked: Asked
) -> Response[Subscription]:
    async def made(conn: AsyncConnection) -> Created:
        return await amend(conn, request, deps, principal, subscription, asked)

    return await created_once(request, deps, principal, made, status_code=200)


async def _change(
    conn: AsyncConnection, deps: ApiDeps, principal: Principal, subscription: str, spec: ChangeSpec
) -> Asked:
    if spec.plan is not None and spec.plan_version is not None:
        raise invalid_field("/plan_version", "change_ambiguous", "send a plan or a plan version, not both")
    version_id = None
    if spec.plan is not None:
        plan = await plans.get_plan(conn, principal.scope, spec.plan)
        check_sold(plan)
        version_id = plan.version_id
    elif spec.plan_version is not None:
        plan = await plans.get_plan_version(conn, principal.scope, spec.plan_version)
        if plan.archived_at is not None:
            raise Conflict("plan_archived", f"the plan {plan.key!r} is not sold any more")
        version_id = plan.version_id
    held = await subscriptions.get_subscription(conn, principal.scope, subscription, deps.clock.now())
    return change_asked(spec, version_id, await _addons(conn, principal, held, spec.addons))


async def _addons(
    conn: AsyncConnection, principal: Principal, held: Subscription, units: dict[str, int]
) -> dict[str, int]:
    """Units by version: of an add-on that is held, the version that is held; of another, the one that is sold now."""
    versions = await addon_versions_by_id(conn, list(held.addons))
    kept = {version.addon_id: version.id for version in versions.values()}
    found: dict[str, int] = {}
    for reference, count in units.items():
        addon = await get_addon(conn, principal.scope, reference)
        if addon.archived_at is not None and addon.id not in kept:
            raise Conflict("addon_not_published", f"the add-on {addon.key!r} is not sold any more")
        found[kept.get(addon.id, addon.version_id)] = count
    return found


def _revision(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not _CURSOR.fullmatch(cursor):
        raise Invalid("cursor_invalid", "this cursor is none that a list has answered with")
    return int(cursor)
