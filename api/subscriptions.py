"""`/v1/subscriptions`: who holds which plan from when on."""

from typing import Any

from litestar import Controller, Request, Response, get, post
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Principal, require
from api.conventions import Created, Page, PageLimit, created_once, page_of, tagged
from api.deps import ApiDeps
from api.subscription_amend import change_key, publish
from domain.plans import check_sold
from domain.subscriptions.amend import amended
from domain.subscriptions.begin import begin_requests
from domain.subscriptions.holding import holding
from schemas.subscriptions import Subscription, SubscriptionSpec
from stores.postgres import customers, plans, subscriptions
from stores.postgres.engine import transaction
from stores.postgres.sold import sold_of

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
            now = deps.clock.now()
            customer = await customers.get_customer(conn, principal.scope, data.customer)
            plan = await plans.get_plan(conn, principal.scope, data.plan)
            check_sold(plan)
            sold = await sold_of(conn, [], [plan.version_id])
            requests = begin_requests(
                data, customer, plan, now, made_by=principal.key_id, key=change_key(request, deps)
            )
            begun = amended((), requests, sold, now)
            subscription_id = deps.ids.new(PREFIX)
            row = holding(begun.life, sold, now)
            await subscriptions.create_subscription(
                conn, principal.scope, subscription_id, begun.life, row, begun.records
            )
            await publish(conn, deps, principal, customer)
            return await subscriptions.get_subscription(conn, principal.scope, subscription_id, now)

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
