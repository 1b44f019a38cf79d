"""`/v1/subscriptions`: who holds which plan from when on."""

from datetime import datetime
from typing import Any

from litestar import Controller, Request, Response, get, post
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Principal, require
from api.conventions import Created, Page, PageLimit, check_match, created_once, page_of, tagged
from api.deps import ApiDeps
from domain.periods import billing_period_at, zone_of
from domain.plans import check_sold
from domain.subscriptions import period_anchor, period_to_close, status_at, validate_start
from schemas.customers import Customer
from schemas.periods import Cadence
from schemas.plans import Plan
from schemas.scope import Scope
from schemas.subscriptions import Subscription, SubscriptionSpec
from stores.postgres import catalog_log, contracts, customers, plans, subscriptions
from stores.postgres.engine import transaction

PREFIX = "sub"


class SubscriptionsController(Controller):
    path = "/v1/subscriptions"
    tags = ("subscriptions",)

    @post("/", guards=[require("subscriptions:write")])
    async def create(
        self, request: Request[Any, Any, Any], data: SubscriptionSpec, principal: Principal, deps: ApiDeps
    ) -> Response[Subscription]:
        """A start in the past is billed period by period, in order."""

        async def create(conn: AsyncConnection) -> Created:
            customer = await customers.get_customer(conn, principal.scope, data.customer)
            plan = await plans.get_plan(conn, principal.scope, data.plan)
            check_sold(plan)
            held = _begun(data, customer, plan, deps.ids.new(PREFIX), deps.clock.now())
            version = await catalog_log.begin_version(conn)
            anchor_at = period_anchor(held.start_at, held.billing, Cadence(unit=plan.cadence), held.timezone)
            await subscriptions.create_subscription(conn, principal.scope, held, anchor_at)
            await _publish(conn, principal.scope, deps, customer, version)
            return held

        return await created_once(request, deps, principal, create)

    @get("/", guards=[require("subscriptions:read")])
    async def list(
        self,
        principal: Principal,
        deps: ApiDeps,
        limit: PageLimit = 50,
        cursor: str | None = None,
        customer: str | None = None,
    ) -> Page[Subscription]:
        async with transaction(deps.engine) as conn:
            of_customer = None
            if customer is not None:
                of_customer = (await customers.get_customer(conn, principal.scope, customer)).id
            found = await subscriptions.list_subscriptions(
                conn, principal.scope, deps.clock.now(), limit=limit, after=cursor, customer_id=of_customer
            )
        return page_of(found, limit)

    @get("/{subscription:str}", guards=[require("subscriptions:read")])
    async def get(self, subscription: str, principal: Principal, deps: ApiDeps) -> Response[Subscription]:
        async with transaction(deps.engine) as conn:
            held = await subscriptions.get_subscription(conn, principal.scope, subscription, deps.clock.now())
        return tagged(held)

    @post("/{subscription:str}/cancel", guards=[require("subscriptions:write")])
    async def cancel(
        self, request: Request[Any, Any, Any], subscription: str, principal: Principal, deps: ApiDeps
    ) -> Response[Subscription]:
        """Ends it with the billing period that is running. Repeating it changes nothing."""

        async def cancel(conn: AsyncConnection) -> Created:
            now = deps.clock.now()
            held = await subscriptions.get_subscription(conn, principal.scope, subscription, now, for_update=True)
            if held.end_at is not None:
                return held
            check_match(request, held.revision)
            plan = await plans.get_plan_version(conn, principal.scope, held.plan_version_id)
            await _end(conn, principal.scope, held, plan, now)
            customer = await customers.get_customer(conn, principal.scope, held.customer_id)
            await _publish(conn, principal.scope, deps, customer, await catalog_log.begin_version(conn))
            return await subscriptions.get_subscription(conn, principal.scope, subscription, now)

        return await created_once(request, deps, principal, cancel, status_code=200)


def _begun(data: SubscriptionSpec, customer: Customer, plan: Plan, subscription_id: str, now: datetime) -> Subscription:
    start_at = now.replace(microsecond=0) if data.start_at is None else data.start_at
    validate_start(start_at)
    zone = data.timezone or customer.timezone
    zone_of(zone)
    cadence = Cadence(unit=plan.cadence)
    first = period_to_close(
        start_at=start_at, end_at=None, billing=data.billing, cadence=cadence, zone=zone, closed_to=start_at
    )
    return Subscription(
        id=subscription_id,
        customer_id=customer.id,
        plan_id=plan.id,
        plan_version_id=plan.version_id,
        status=status_at(now, start_at, None),
        billing=data.billing,
        timezone=zone,
        start_at=start_at,
        end_at=None,
        closed_to=start_at,
        next_close_at=None if first is None else first.end,
        revision=1,
        created_at=now,
    )


async def _end(conn: AsyncConnection, scope: Scope, held: Subscription, plan: Plan, now: datetime) -> None:
    cadence = Cadence(unit=plan.cadence)
    running = billing_period_at(held.start_at, held.billing, cadence, held.timezone, max(now, held.start_at))
    left = period_to_close(
        start_at=held.start_at,
        end_at=running.end,
        billing=held.billing,
        cadence=cadence,
        zone=held.timezone,
        closed_to=held.closed_to,
    )
    await subscriptions.end_subscription(conn, scope, held, running.end, left)


async def _publish(conn: AsyncConnection, scope: Scope, deps: ApiDeps, customer: Customer, version: int) -> None:
    # Nothing of the catalog changed: the empty version keeps versions without a gap.
    await catalog_log.record(conn, version, [])
    partitions = deps.settings.kafka.balance_partitions
    await contracts.publish_contract(conn, scope, customer, version, deps.clock.now(), partitions)
