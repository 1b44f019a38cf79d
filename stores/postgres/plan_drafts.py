"""How versions of a plan come about: written, edited, published, archived. All of it under the lock of the plan's row."""

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import Conflict, NotFound
from domain.plan_phases import standing_phase
from schemas.plan_phases import KeptPlanVersion, PlanVersion
from schemas.plans import Plan
from schemas.scope import Scope
from stores.postgres.plans import VERSIONS, get_plan, insert_sold, versions_of
from stores.postgres.rows import find, in_scope, is_number, page
from stores.postgres.tables import plan_versions, plans


async def lock_plan(conn: AsyncConnection, scope: Scope, reference: str) -> Plan:
    """The plan, for a change of it or of its versions: others that lock it wait until the transaction ends.

    Raises NotFound `plan_not_found`.
    """
    plan_id = (await find(conn, plans, scope, reference, "plan")).id
    await conn.execute(select(plans.c.id).where(plans.c.id == plan_id).with_for_update(key_share=True))
    return await get_plan(conn, scope, plan_id)


async def insert_draft(conn: AsyncConnection, version: PlanVersion, created_at: datetime) -> None:
    """Safe to repeat by (plan, number): the database holds a number once."""
    values = {
        "id": version.id,
        "plan_id": version.plan_id,
        "version": version.version,
        "status": version.status,
        "created_at": created_at,
        **_edited(version),
    }
    await conn.execute(insert(plan_versions).values(values))


async def edit_draft(conn: AsyncConnection, version: PlanVersion) -> None:
    """The draft says what `version` says."""
    await _set(conn, version, _edited(version))
    await touch_plan(conn, version.plan_id)


async def publish_draft(conn: AsyncConnection, scope: Scope, version: PlanVersion, published_at: datetime) -> None:
    """The published `version` in place of its draft, with the rows that closings and contracts read."""
    values = {**_edited(version), "status": version.status, "published_at": published_at}
    await _set(conn, version, values)
    sold = standing_phase(version.phases)
    prices = [card.price for card in sold.rate_cards]
    await insert_sold(conn, scope, version.id, prices, sold.entitlements, published_at)
    await touch_plan(conn, version.plan_id)


async def archive_version(conn: AsyncConnection, version: PlanVersion) -> None:
    """As the archived `version` says; subscriptions keep it."""
    await _set(conn, version, {"status": version.status, "archived_at": version.archived_at})
    await touch_plan(conn, version.plan_id)


async def check_not_only(conn: AsyncConnection, version: PlanVersion) -> None:
    """The plan's row is locked. Raises Conflict `only_version`."""
    others = select(plan_versions.c.id).where(
        plan_versions.c.plan_id == version.plan_id, plan_versions.c.id != version.id
    )
    if (await conn.execute(others.limit(1))).first() is None:
        raise Conflict("only_version", "a plan has a version: edit this one, or DELETE the plan")


async def delete_draft(conn: AsyncConnection, version: PlanVersion) -> None:
    """Nothing refers to a draft: it is gone."""
    draft = (plan_versions.c.id == version.id, plan_versions.c.status == "draft")
    await conn.execute(delete(plan_versions).where(*draft))
    await touch_plan(conn, version.plan_id)


async def rename_plan(conn: AsyncConnection, plan: Plan, name: str) -> None:
    await conn.execute(update(plans).where(plans.c.id == plan.id).values(name=name, revision=plans.c.revision + 1))


async def next_number(conn: AsyncConnection, plan_id: str) -> int:
    """The number of the plan's next version, for who holds the plan's lock."""
    newest = select(func.coalesce(func.max(plan_versions.c.version), 0)).where(plan_versions.c.plan_id == plan_id)
    return int((await conn.execute(newest)).scalar_one()) + 1


async def get_version(conn: AsyncConnection, scope: Scope, plan_id: str, reference: str) -> KeptPlanVersion:
    """By number or id. Raises NotFound `plan_version_not_found`."""
    named = plan_versions.c.version == int(reference) if is_number(reference) else plan_versions.c.id == reference
    query = VERSIONS.where(in_scope(plans, scope), plan_versions.c.plan_id == plan_id, named)
    rows = (await conn.execute(query)).all()
    if not rows:
        raise NotFound(
            "plan_version_not_found", f"the plan has no version {reference!r}; its list shows those there are"
        )
    return (await versions_of(conn, rows))[0]


async def list_versions(
    conn: AsyncConnection, scope: Scope, plan_id: str, *, limit: int, after: str | None
) -> list[KeptPlanVersion]:
    """All versions of a plan, oldest first, up to `limit + 1`."""
    query = VERSIONS.where(in_scope(plans, scope), plan_versions.c.plan_id == plan_id)
    rows = (await conn.execute(page(query, plan_versions.c.id, limit=limit, after=after))).all()
    return await versions_of(conn, rows)


def _edited(version: PlanVersion) -> dict[str, Any]:
    return {
        "cadence": version.cadence.unit,
        "family": version.family,
        "level": version.level,
        "phases": msgspec.to_builtins(version.phases),
    }


async def _set(conn: AsyncConnection, version: PlanVersion, values: dict[str, Any]) -> None:
    statement = update(plan_versions).where(plan_versions.c.id == version.id)
    await conn.execute(statement.values(**values, revision=plan_versions.c.revision + 1))


async def touch_plan(conn: AsyncConnection, plan_id: str) -> None:
    """What the plan is at the version that it shows may have changed, and so its `ETag` does."""
    await conn.execute(update(plans).where(plans.c.id == plan_id).values(revision=plans.c.revision + 1))
