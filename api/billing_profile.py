"""`/v1/billing-profile`: who sells, as this tenant's invoices say, and how they are numbered."""

from typing import Any

from litestar import Controller, Request, Response, get, put

from api.auth import Principal, require
from api.conventions import check_match, tagged
from api.deps import ApiDeps
from domain.parties import validate_profile
from schemas.billing_profiles import BillingProfile, BillingProfileSpec
from stores.postgres import billing_profiles
from stores.postgres.engine import transaction


class BillingProfileController(Controller):
    path = "/v1/billing-profile"
    tags = ("invoices",)

    @get("/", guards=[require("invoices:read")])
    async def get(self, principal: Principal, deps: ApiDeps) -> Response[BillingProfile]:
        """Revision 0 is what holds until one is put: the tenant by its own name."""
        async with transaction(deps.engine) as conn:
            return tagged(await billing_profiles.get_profile(conn, principal.scope))

    @put("/", guards=[require("admin")])
    async def put(
        self, request: Request[Any, Any, Any], data: BillingProfileSpec, principal: Principal, deps: ApiDeps
    ) -> Response[BillingProfile]:
        """Replaces it whole, for invoices that are made from now on; those that were made keep what they say."""
        validate_profile(data)
        async with transaction(deps.engine) as conn:
            held = await billing_profiles.lock_profile(conn, principal.scope)
            check_match(request, held.revision)
            return tagged(await billing_profiles.put_profile(conn, principal.scope, data))
