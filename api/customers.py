"""`/v1/customers`: who is billed, and by which names events may call them."""

from typing import Any

from litestar import Controller, Request, Response, delete, get, patch, post
from msgspec import UNSET
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Principal, require
from api.conventions import Created, Page, PageLimit, check_match, created_once, page_of, tagged
from api.deps import ApiDeps
from domain.customers import validate_customer
from schemas.customers import Customer, CustomerPatch, CustomerSpec
from stores.postgres import contracts, customers
from stores.postgres.engine import transaction

PREFIX = "cus"


class CustomersController(Controller):
    path = "/v1/customers"
    tags = ("customers",)

    @post("/", guards=[require("customers:write")])
    async def create(
        self, request: Request[Any, Any, Any], data: CustomerSpec, principal: Principal, deps: ApiDeps
    ) -> Response[Customer]:
        """Events that named it before it was created count for it from then on."""

        async def create(conn: AsyncConnection) -> Created:
            customer = Customer(
                id=deps.ids.new(PREFIX),
                external_id=data.external_id,
                name=data.name,
                aliases=data.aliases,
                timezone=data.timezone,
                currency=data.currency,
                address=data.address,
                email=data.email,
                tax_id=data.tax_id,
                attributes=data.attributes,
                revision=1,
                created_at=deps.clock.now(),
                archived_at=None,
            )
            validate_customer(customer, PREFIX)
            version = await customers.create_customer(conn, principal.scope, customer)
            await _publish(conn, principal, deps, customer, version)
            return customer

        return await created_once(request, deps, principal, create)

    @get("/", guards=[require("customers:read")])
    async def list(
        self,
        principal: Principal,
        deps: ApiDeps,
        limit: PageLimit = 50,
        cursor: str | None = None,
        search: str | None = None,
    ) -> Page[Customer]:
        """`search` is part of a name, an external id or an id."""
        async with transaction(deps.engine) as conn:
            found = await customers.list_customers(conn, principal.scope, limit=limit, after=cursor, search=search)
        return page_of(found, limit)

    @get("/{customer:str}", guards=[require("customers:read")])
    async def get(self, customer: str, principal: Principal, deps: ApiDeps) -> Response[Customer]:
        async with transaction(deps.engine) as conn:
            return tagged(await customers.get_customer(conn, principal.scope, customer))

    @patch("/{customer:str}", guards=[require("customers:write")])
    async def change(
        self, request: Request[Any, Any, Any], customer: str, data: CustomerPatch, principal: Principal, deps: ApiDeps
    ) -> Response[Customer]:
        """`aliases` replaces all of them: what an alias counted before follows it to its next owner."""
        async with transaction(deps.engine) as conn:
            kept = await customers.lock_customer(conn, principal.scope, customer)
            check_match(request, kept.revision)
            given = {name: getattr(data, name) for name in CustomerPatch.__struct_fields__}
            wanted = replace(kept, **{name: value for name, value in given.items() if value is not UNSET})
            validate_customer(wanted, PREFIX)
            changed, version = await customers.change_customer(conn, principal.scope, wanted)
            await _publish(conn, principal, deps, changed, version)
            return tagged(changed)

    @delete("/{customer:str}", guards=[require("customers:write")])
    async def archive(
        self, request: Request[Any, Any, Any], customer: str, principal: Principal, deps: ApiDeps
    ) -> None:
        async with transaction(deps.engine) as conn:
            kept = await customers.lock_customer(conn, principal.scope, customer)
            check_match(request, kept.revision)
            await customers.archive_customer(conn, principal.scope, kept, deps.clock.now())


async def _publish(
    conn: AsyncConnection, principal: Principal, deps: ApiDeps, customer: Customer, version: int
) -> None:
    partitions = deps.settings.kafka.balance_partitions
    await contracts.publish_contract(conn, principal.scope, customer, version, deps.clock.now(), partitions)
