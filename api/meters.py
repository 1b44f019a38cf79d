"""`/v1/meters`: what is counted."""

from typing import Any

from litestar import Controller, Request, Response, delete, get, patch, post
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Principal, require
from api.conventions import Created, Page, PageLimit, check_match, created_once, page_of, tagged
from api.deps import ApiDeps
from domain.keys import validate_key
from domain.meter_rules import validate_meter
from schemas.kept_meters import KeptMeter
from schemas.meters import Meter, MeterSpec
from stores.postgres import meters
from stores.postgres.engine import transaction

PREFIX = "met"


class MeterPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Only the name: what a meter counts is fixed, since windows already hold it. Create another meter instead."""

    name: str


def meter_of(spec: MeterSpec, meter_id: str) -> Meter:
    return Meter(id=meter_id, **{name: getattr(spec, name) for name in MeterSpec.__struct_fields__})


class MetersController(Controller):
    path = "/v1/meters"
    tags = ("meters",)

    @post("/", guards=[require("catalog:write")])
    async def create(
        self, request: Request[Any, Any, Any], data: MeterSpec, principal: Principal, deps: ApiDeps
    ) -> Response[KeptMeter]:
        """It counts events from the catalog version on that it is created in."""
        validate_meter(data)
        validate_key(data.key, PREFIX)

        async def create(conn: AsyncConnection) -> Created:
            meter = meter_of(data, deps.ids.new(PREFIX))
            return await meters.create_meter(conn, principal.scope, meter, deps.clock.now())

        return await created_once(request, deps, principal, create)

    @get("/", guards=[require("catalog:read")])
    async def list(
        self, principal: Principal, deps: ApiDeps, limit: PageLimit = 50, cursor: str | None = None
    ) -> Page[KeptMeter]:
        async with transaction(deps.engine) as conn:
            found = await meters.list_meters(conn, principal.scope, limit=limit, after=cursor)
        return page_of(found, limit)

    @get("/{meter:str}", guards=[require("catalog:read")])
    async def get(self, meter: str, principal: Principal, deps: ApiDeps) -> Response[KeptMeter]:
        async with transaction(deps.engine) as conn:
            return tagged(await meters.get_meter(conn, principal.scope, meter))

    @patch("/{meter:str}", guards=[require("catalog:write")])
    async def rename(
        self, request: Request[Any, Any, Any], meter: str, data: MeterPatch, principal: Principal, deps: ApiDeps
    ) -> Response[KeptMeter]:
        async with transaction(deps.engine) as conn:
            kept = await meters.get_meter(conn, principal.scope, meter)
            check_match(request, kept.revision)
            return tagged(await meters.rename_meter(conn, principal.scope, kept, data.name))

    @delete("/{meter:str}", guards=[require("catalog:write")])
    async def archive(self, request: Request[Any, Any, Any], meter: str, principal: Principal, deps: ApiDeps) -> None:
        async with transaction(deps.engine) as conn:
            kept = await meters.get_meter(conn, principal.scope, meter)
            check_match(request, kept.revision)
            await meters.archive_meter(conn, principal.scope, kept, deps.clock.now())
