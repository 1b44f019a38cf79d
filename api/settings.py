"""`/v1/settings`: what this tenant and environment accepts."""

from litestar import Controller, get, patch
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from api.auth import Principal, require
from api.deps import ApiDeps
from domain.limits import validate_limits
from schemas.catalog import TenantLimits
from stores.postgres import limits
from stores.postgres.engine import transaction


class LimitsPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays."""

    max_event_age_s: int | UnsetType = UNSET
    max_event_ahead_s: int | UnsetType = UNSET
    reject_unknown_customer: bool | UnsetType = UNSET


class SettingsController(Controller):
    path = "/v1/settings"
    tags = ("settings",)

    @get("/", guards=[require("admin")])
    async def get(self, principal: Principal, deps: ApiDeps) -> TenantLimits:
        async with transaction(deps.engine) as conn:
            return await limits.get_limits(conn, principal.scope)

    @patch("/", guards=[require("admin")])
    async def change(self, data: LimitsPatch, principal: Principal, deps: ApiDeps) -> TenantLimits:
        """A wider age takes effect within a second; the duplicate filter remembers as long as the widest age asks."""
        given = {name: getattr(data, name) for name in LimitsPatch.__struct_fields__}
        async with transaction(deps.engine) as conn:
            kept = await limits.get_limits(conn, principal.scope)
            wanted = replace(kept, **{name: value for name, value in given.items() if value is not UNSET})
            validate_limits(wanted)
            await limits.set_limits(conn, principal.scope, wanted)
        return wanted
