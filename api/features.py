"""`/v1/features`: what plans grant and checks ask for."""

from typing import Any

from litestar import Controller, Request, Response, delete, get, post
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Principal, require
from api.conventions import Created, Page, PageLimit, check_match, created_once, page_of, tagged
from api.deps import ApiDeps
from domain.errors import Conflict
from domain.features import validate_feature
from domain.meter_rules import check_limited
from schemas.features import Feature, FeatureSpec
from schemas.scope import Scope
from stores.postgres import features, meters
from stores.postgres.engine import transaction

PREFIX = "fea"


class FeaturesController(Controller):
    path = "/v1/features"
    tags = ("features",)

    @post("/", guards=[require("catalog:write")])
    async def create(
        self, request: Request[Any, Any, Any], data: FeatureSpec, principal: Principal, deps: ApiDeps
    ) -> Response[Feature]:
        validate_feature(data, PREFIX)

        async def create(conn: AsyncConnection) -> Created:
            feature = Feature(
                id=deps.ids.new(PREFIX),
                key=data.key,
                name=data.name,
                kind=data.kind,
                meter_id=await _meter_id(conn, principal.scope, data.meter),
                revision=1,
                created_at=deps.clock.now(),
                archived_at=None,
            )
            return await features.create_feature(conn, principal.scope, feature)

        return await created_once(request, deps, principal, create)

    @get("/", guards=[require("catalog:read")])
    async def list(
        self, principal: Principal, deps: ApiDeps, limit: PageLimit = 50, cursor: str | None = None
    ) -> Page[Feature]:
        async with transaction(deps.engine) as conn:
            found = await features.list_features(conn, principal.scope, limit=limit, after=cursor)
        return page_of(found, limit)

    @get("/{feature:str}", guards=[require("catalog:read")])
    async def get(self, feature: str, principal: Principal, deps: ApiDeps) -> Response[Feature]:
        async with transaction(deps.engine) as conn:
            return tagged(await features.get_feature(conn, principal.scope, feature))

    @delete("/{feature:str}", guards=[require("catalog:write")])
    async def archive(self, request: Request[Any, Any, Any], feature: str, principal: Principal, deps: ApiDeps) -> None:
        async with transaction(deps.engine) as conn:
            kept = await features.get_feature(conn, principal.scope, feature)
            check_match(request, kept.revision)
            await features.archive_feature(conn, principal.scope, kept, deps.clock.now())


async def _meter_id(conn: AsyncConnection, scope: Scope, reference: str | None) -> str | None:
    if reference is None:
        return None
    meter = await meters.get_meter(conn, scope, reference)
    if meter.archived_at is not None:
        raise Conflict("meter_archived", f"the meter {reference!r} is archived and counts nothing any more")
    check_limited(meter, "/meter")
    return meter.id
