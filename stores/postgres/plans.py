"""Plans, their published versions, prices and entitlements."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Row, insert, select, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import NotFound
from schemas.entitlements import EntitlementSpec
from schemas.plans import Plan
from schemas.prices import PlanPrice
from schemas.scope import Scope
from stores.postgres.rows import find, in_scope, page, refuse_taken
from stores.postgres.tables import plan_entitlements, plan_versions, plans, prices


async def create_plan(conn: AsyncConnection, scope: Scope, plan: Plan) -> None:
    """Keeps the plan with its first version. `entitlements[].feature` are feature ids.

    Safe to repeat by (tenant, environment, key): a second one raises Conflict `plan_key_taken`.
    """
    scoped = {"tenant": scope.tenant, "environment": scope.environment}
    head = {"id": plan.id, "key": plan.key, "name": plan.name, "currency": plan.currency, "created_at": plan.created_at}
    try:
        await conn.execute(insert(plans).values({**scoped, **head}))
    except IntegrityError as error:
        raise refuse_taken(error, "plan_key_taken", f"there is a plan with the key {plan.key!r} already") from error
    version = {
        "id": plan.version_id,
        "plan_id": plan.id,
        "version": plan.version,
        "status": plan.status,
        "cadence": plan.cadence,
        "created_at": plan.created_at,
    }
    await conn.execute(insert(plan_versions).values(version))
    if plan.prices:
        await conn.execute(insert(prices), [_price_values(scoped, plan, n, each) for n, each in enumerate(plan.prices)])
    if plan.entitlements:
        await conn.execute(
            insert(plan_entitlements),
            [
                {"plan_version_id": plan.version_id, "feature_id": each.feature, "terms": msgspec.to_builtins(each)}
                for each in plan.entitlements
            ],
        )


def _price_values(scoped: dict[str, str], plan: Plan, position: int, price: PlanPrice) -> dict[str, Any]:
    return {
        **scoped,
        "id": price.id,
        "plan_version_id": plan.version_id,
        "position": position,
        "key": price.key,
        "name": price.name,
        "meter_id": price.meter_id,
        "definition": msgspec.to_builtins(price),
        "created_at": plan.created_at,
    }


async def get_plan(conn: AsyncConnection, scope: Scope, reference: str) -> Plan:
    """The newest version of the plan with this id or key. Raises NotFound `plan_not_found`."""
    row = await find(conn, plans, scope, reference, "plan")
    return (await _with_versions(conn, [row]))[0]


async def get_plan_version(conn: AsyncConnection, scope: Scope, version_id: str) -> Plan:
    """The plan at one version. Raises NotFound `plan_version_not_found`."""
    query = (
        select(plans)
        .join(plan_versions, plan_versions.c.plan_id == plans.c.id)
        .where(in_scope(plans, scope), plan_versions.c.id == version_id)
    )
    row = (await conn.execute(query)).first()
    if row is None:
        raise NotFound("plan_version_not_found", f"there is no plan version {version_id!r}")
    return (await _at_versions(conn, [row], [version_id]))[version_id]


async def plan_versions_by_id(conn: AsyncConnection, version_ids: Sequence[str]) -> dict[str, Plan]:
    """Plans at these versions, whatever their tenant: for jobs that run over all of them."""
    sold = select(plan_versions.c.plan_id).where(plan_versions.c.id.in_(version_ids))
    heads = await conn.execute(select(plans).where(plans.c.id.in_(sold)))
    return await _at_versions(conn, heads, version_ids)


async def plans_of_prices(conn: AsyncConnection, price_ids: Sequence[str]) -> dict[str, Plan]:
    """By the id of the price: the plan at the version that the price belongs to, whatever its tenant."""
    if not price_ids:
        return {}
    query = select(prices.c.id, prices.c.plan_version_id).where(prices.c.id.in_(set(price_ids)))
    versions = {row.id: row.plan_version_id for row in await conn.execute(query)}
    found = await plan_versions_by_id(conn, sorted(set(versions.values())))
    return {price_id: found[version_id] for price_id, version_id in versions.items()}


async def list_plans(conn: AsyncConnection, scope: Scope, *, limit: int, after: str | None) -> list[Plan]:
    """Plans that are not archived, oldest first, each at its newest version, up to `limit + 1`."""
    query = select(plans).where(in_scope(plans, scope), plans.c.archived_at.is_(None))
    rows = (await conn.execute(page(query, plans.c.id, limit=limit, after=after))).all()
    return await _with_versions(conn, rows)


async def archive_plan(conn: AsyncConnection, scope: Scope, plan: Plan, archived_at: datetime) -> None:
    """It cannot be sold any more; subscriptions keep it. Repeating it changes nothing."""
    await conn.execute(
        update(plans)
        .where(in_scope(plans, scope), plans.c.id == plan.id, plans.c.archived_at.is_(None))
        .values(archived_at=archived_at, revision=plans.c.revision + 1)
    )


async def _with_versions(conn: AsyncConnection, rows: Iterable[Row[Any]]) -> list[Plan]:
    """Each at its newest version."""
    heads = list(rows)
    newest = select(plan_versions).ext(distinct_on(plan_versions.c.plan_id))
    newest = newest.where(plan_versions.c.plan_id.in_([head.id for head in heads]))
    newest = newest.order_by(plan_versions.c.plan_id, plan_versions.c.version.desc())
    versions = {row.plan_id: row for row in await conn.execute(newest)}
    made = await _complete(conn, [(head, versions[head.id]) for head in heads])
    return [made[versions[head.id].id] for head in heads]


async def _at_versions(conn: AsyncConnection, rows: Iterable[Row[Any]], version_ids: Sequence[str]) -> dict[str, Plan]:
    heads = {head.id: head for head in rows}
    found = await conn.execute(select(plan_versions).where(plan_versions.c.id.in_(version_ids)))
    return await _complete(conn, [(heads[version.plan_id], version) for version in found])


async def _complete(conn: AsyncConnection, found: Sequence[tuple[Row[Any], Row[Any]]]) -> dict[str, Plan]:
    """By the id of the version: plans with their prices and entitlements."""
    ids = [version.id for _, version in found]
    sold: dict[str, list[PlanPrice]] = {}
    by_position = select(prices).where(prices.c.plan_version_id.in_(ids)).order_by(prices.c.position)
    for row in await conn.execute(by_position):
        sold.setdefault(row.plan_version_id, []).append(msgspec.convert(row.definition, PlanPrice))
    granted: dict[str, list[EntitlementSpec]] = {}
    by_feature = select(plan_entitlements).where(plan_entitlements.c.plan_version_id.in_(ids))
    for row in await conn.execute(by_feature.order_by(plan_entitlements.c.feature_id)):
        granted.setdefault(row.plan_version_id, []).append(msgspec.convert(row.terms, EntitlementSpec))
    return {version.id: _plan(head, version, sold, granted) for head, version in found}


def _plan(
    head: Row[Any], version: Row[Any], sold: dict[str, list[PlanPrice]], granted: dict[str, list[EntitlementSpec]]
) -> Plan:
    return Plan(
        id=head.id,
        key=head.key,
        name=head.name,
        currency=head.currency,
        version=version.version,
        version_id=version.id,
        status=version.status,
        cadence=version.cadence,
        prices=tuple(sold.get(version.id, ())),
        entitlements=tuple(granted.get(version.id, ())),
        revision=head.revision,
        created_at=head.created_at,
        archived_at=head.archived_at,
    )
