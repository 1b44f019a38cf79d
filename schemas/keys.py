"""API keys as they are kept: never their secret."""

from datetime import datetime

import msgspec

ALL_SCOPES = "*"
# Beyond the key's own tenant: what is nobody's. `*` does not hold it; it must be named.
OPERATOR = "operator"
SCOPES = (
    "events:write",
    "usage:read",
    "catalog:read",
    "catalog:write",
    "customers:read",
    "customers:write",
    "subscriptions:read",
    "subscriptions:write",
    "invoices:read",
    "checks:read",
    "admin",
    OPERATOR,
    ALL_SCOPES,
)


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key of one tenant and environment. `prefix` is the public part of `ms_<prefix>_<secret>`, to tell keys apart."""

    id: str
    tenant: str
    environment: str
    name: str
    prefix: str
    scopes: list[str]
    created_at: datetime
    revoked_at: datetime | None
