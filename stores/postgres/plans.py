"""Plans, and what their versions sell: prices, entitlements, phases. How versions come about is in `plan_drafts`."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Row, insert, select, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import NotFound
from domain.plan_phases import standing_phase
from domain.plan_versions import version_of
from schemas.entitlements import EntitlementSpec
from schemas.periods import Cadence
from schemas.plan_phases import KeptPlanVersion, Phase, PlanVersion
from schemas.plans import Plan
from schemas.prices import PlanPrice
from schemas.scope import Scope
from stores.postgres.rows import find, in_scope, page, refuse_taken
from stores.postgres.tables import plan_entitlements, plan_versions, plans, prices

# A row of `versions_of`: a version with what its plan says.
VERSIONS = select(plan_versions, plans.c.key, plans.c.name, plans.c.currency).join(
    plans, plans.c.id == plan_versions.c.plan_id
)


async def create_plan(conn: AsyncConnection, scope: Scope, plan: Plan) -> None:
    """Keeps the plan with its first version. `entitlements[].feature` are feature ids.

    Safe to repeat by (tenant, environment, key): a second one raises Conflict `plan_key_taken`.
    """
    await insert_plan(conn, scope, plan)
    version = {
        "id": plan.version_id,
        "plan_id": plan.id,
        "version": plan.version,
        "status": plan.status,
        "cadence": plan.cadence,
        "created_at": plan.created_at,
        "published_at": plan.created_at,
    }
    await conn.execute(insert(plan_versions).values(version))
    await insert_sold(conn, scope, plan.version_id, plan.prices, plan.entitlements, plan.created_at)


async def insert_plan(conn: AsyncConnection, scope: Scope, plan: Plan) -> None:
    """Keeps the plan without its version, as `create_plan`."""
    values = {
        "id": plan.id,
        "tenant": scope.tenant,
        "environment": scope.environment,
        "key": plan.key,
        "name": plan.name,
        "currency": plan.currency,
        "created_at": plan.created_at,
    }
    try:
        await conn.execute(insert(plans).values(values))
    except IntegrityError as error:
        raise refuse_taken(error, "plan_key_taken", f"there is a plan with the key {plan.key!r} already") from error


async def insert_sold(
    conn: AsyncConnection,
    scope: Scope,
    version_id: str,
    sold: Sequence[PlanPrice],
    granted: Sequence[EntitlementSpec],
    sold_at: datetime,
) -> None:
    """The prices and entitlements of a version that is published, as closings and contracts read them. Once a version."""
    if sold:
        scoped = {"tenant": scope.tenant, "environment": scope.environment}
        rows = [
            {
                **scoped,
                "id": price.id,
                "plan_version_id": version_id,
                "position": position,
                "key": price.key,
                "name": price.name,
                "meter_id": price.meter_id,
                "definition": msgspec.to_builtins(price),
                "created_at": sold_at,
            }
            for position, price in enumerate(sold)
        ]
        await conn.execute(insert(prices), rows)
    if granted:
        await conn.execute(
            insert(plan_entitlements),
            [
                {"plan_version_id": version_id, "feature_id": each.feature, "terms": msgspec.to_builtins(each)}
                for each in granted
            ],
        )


async def get_plan(conn: AsyncConnection, scope: Scope, reference: str) -> Plan:
    """The plan with this id or key at the version that is sold now: the newest published one; where none is, the newest.

    Raises NotFound `plan_not_found`.
    """
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


async def plan_version_cards(conn: AsyncConnection, version_ids: Sequence[str]) -> dict[str, PlanVersion]:
    """Versions with their phases by id, whatever their tenant and state: what decisions about subscriptions work with.

    A version without phases of its own is one phase of its prices, billed in arrears at the plan's cadence.
    """
    rows = await conn.execute(VERSIONS.where(plan_versions.c.id.in_(version_ids)))
    return {version.id: version for version in await versions_of(conn, rows.all())}


async def versions_of(conn: AsyncConnection, rows: Sequence[Row[Any]]) -> list[KeptPlanVersion]:
    """The versions of rows of `VERSIONS`, in order."""
    plain = await plan_versions_by_id(conn, [row.id for row in rows if row.phases is None])
    return [_version(row, _phases(row) if row.phases is not None else version_of(plain[row.id]).phases) for row in rows]


def _phases(row: Row[Any]) -> tuple[Phase, ...]:
    return msgspec.convert(row.phases, tuple[Phase, ...])


def _version(row: Row[Any], phases: tuple[Phase, ...]) -> KeptPlanVersion:
    return KeptPlanVersion(
        id=row.id,
        plan_id=row.plan_id,
        plan_key=row.key,
        name=row.name,
        family=row.family,
        level=row.level,
        version=row.version,
        status=row.status,
        currency=row.currency,
        cadence=Cadence(unit=row.cadence),
        phases=phases,
        published_at=row.published_at,
        archived_at=row.archived_at,
        revision=row.revision,
        created_at=row.created_at,
    )


async def list_plans(conn: AsyncConnection, scope: Scope, *, limit: int, after: str | None) -> list[Plan]:
    """Plans that are not archived, oldest first, each as `get_plan` has it, up to `limit + 1`."""
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
    """Each at its newest published version, or at its newest where none is published."""
    heads = list(rows)
    newest = select(plan_versions).ext(distinct_on(plan_versions.c.plan_id))
    newest = newest.where(plan_versions.c.plan_id.in_([head.id for head in heads]))
    published_first = (plan_versions.c.status == "published").desc()
    newest = newest.order_by(plan_versions.c.plan_id, published_first, plan_versions.c.version.desc())
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
    for _, version in found:
        if version.status == "draft":  # nothing of it is sold yet
            last = standing_phase(_phases(version))
            sold[version.id] = [card.price for card in last.rate_cards]
            granted[version.id] = list(last.entitlements)
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
