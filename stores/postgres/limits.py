"""What a tenant accepts: limits of time, and customers it does not know."""

import msgspec
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.catalog import CatalogChange, TenantLimits
from schemas.scope import Scope
from stores.postgres import catalog_log
from stores.postgres.rows import in_scope
from stores.postgres.tables import tenant_limits


async def get_limits(conn: AsyncConnection, scope: Scope) -> TenantLimits:
    """What was set, else the defaults."""
    row = (await conn.execute(select(tenant_limits).where(in_scope(tenant_limits, scope)))).first()
    if row is None:
        return TenantLimits()
    return TenantLimits(
        max_event_age_s=row.max_event_age_s,
        max_event_ahead_s=row.max_event_ahead_s,
        reject_unknown_customer=row.reject_unknown_customer,
    )


async def set_limits(conn: AsyncConnection, scope: Scope, limits: TenantLimits) -> None:
    """Replaces the limits and tells API and workers. Repeating it changes nothing but the version."""
    version = await catalog_log.begin_version(conn)
    values = msgspec.to_builtins(limits)
    statement = insert(tenant_limits).values(tenant=scope.tenant, environment=scope.environment, **values)
    await conn.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant", "environment"], set_={**values, "revision": tenant_limits.c.revision + 1}
        )
    )
    change = CatalogChange(kind="limits", tenant=scope.tenant, environment=scope.environment, key="", body=values)
    await catalog_log.record(conn, version, [change])
