"""What plans and add-ons grant, with the features and meters that their entitlements name."""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.contracts import GrantedFeature
from schemas.entitlements import EntitlementSpec
from stores.postgres.tables import features, meters, plan_entitlements

Grants = dict[str, tuple[GrantedFeature, ...]]

_FEATURE = (
    features.c.id,
    features.c.key,
    features.c.kind,
    features.c.meter_id,
    meters.c.generation,
    meters.c.definition,
)


async def plan_grants(conn: AsyncConnection, version_ids: Collection[str]) -> Grants:
    """By the id of the plan version."""
    query = (
        select(plan_entitlements.c.plan_version_id, plan_entitlements.c.terms, *_FEATURE)
        .join(features, features.c.id == plan_entitlements.c.feature_id)
        .outerjoin(meters, meters.c.id == features.c.meter_id)
        .where(plan_entitlements.c.plan_version_id.in_(version_ids))
    )
    granted: Grants = {}
    for row in await conn.execute(query):
        found = _feature(row, msgspec.convert(row.terms, EntitlementSpec))
        granted[row.plan_version_id] = (*granted.get(row.plan_version_id, ()), found)
    return granted


async def granted_features(
    conn: AsyncConnection, grants: Sequence[Sequence[EntitlementSpec]]
) -> list[tuple[GrantedFeature, ...]]:
    """Each entitlement of `grants` with the feature whose id it names, in order."""
    named = {each.feature for entitlements in grants for each in entitlements}
    if not named:
        return [()] * len(grants)
    query = select(*_FEATURE).outerjoin(meters, meters.c.id == features.c.meter_id).where(features.c.id.in_(named))
    rows = {row.id: row for row in await conn.execute(query)}
    return [tuple(_feature(rows[each.feature], each) for each in entitlements) for entitlements in grants]


def _feature(row: Any, terms: EntitlementSpec) -> GrantedFeature:
    counted = (
        {} if row.meter_id is None else {"aggregation": row.definition["aggregation"], "generation": row.generation}
    )
    return GrantedFeature(
        terms=terms,
        feature_id=row.id,
        feature_key=row.key,
        kind=row.kind,
        meter_id=row.meter_id or "",
        **counted,
    )
