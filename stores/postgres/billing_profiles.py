"""Who sells, by tenant and environment."""

from typing import Any

import msgspec
from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.parties import default_profile
from schemas.billing_profiles import BillingProfile, BillingProfileSpec
from schemas.scope import Scope
from stores.postgres.rows import in_scope
from stores.postgres.tables import billing_profiles


async def get_profile(conn: AsyncConnection, scope: Scope) -> BillingProfile:
    """What was put, else the default."""
    row = (await conn.execute(select(billing_profiles).where(in_scope(billing_profiles, scope)))).first()
    return default_profile(scope) if row is None else profile_of(row)


async def lock_profile(conn: AsyncConnection, scope: Scope) -> BillingProfile:
    """The same, held until the transaction ends: of two that put the first one, one waits for the other here."""
    default = default_profile(scope)
    first = {**_values(default), "tenant": scope.tenant, "environment": scope.environment, "revision": default.revision}
    await conn.execute(insert(billing_profiles).values(first).on_conflict_do_nothing())
    query = select(billing_profiles).where(in_scope(billing_profiles, scope)).with_for_update()
    return profile_of((await conn.execute(query)).one())


async def put_profile(conn: AsyncConnection, scope: Scope, profile: BillingProfileSpec) -> BillingProfile:
    """In the place of the one that is locked. Safe to repeat: the same profile, at another revision."""
    changed = (
        update(billing_profiles)
        .where(in_scope(billing_profiles, scope))
        .values(**_values(profile), revision=billing_profiles.c.revision + 1)
        .returning(billing_profiles)
    )
    return profile_of((await conn.execute(changed)).one())


def profile_of(row: Row[Any]) -> BillingProfile:
    return BillingProfile(
        **msgspec.structs.asdict(msgspec.convert(row.profile, BillingProfileSpec)), revision=row.revision
    )


def _values(profile: BillingProfileSpec) -> dict[str, Any]:
    kept = msgspec.to_builtins(profile)
    return {"profile": {name: kept[name] for name in BillingProfileSpec.__struct_fields__}}
