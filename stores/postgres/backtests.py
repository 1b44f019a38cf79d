"""Whose periods a backtest rates."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import NotFound
from schemas.scope import Scope
from stores.postgres.rows import in_scope
from stores.postgres.tables import customer_references, plan_versions, subscriptions


async def customer_ids(conn: AsyncConnection, scope: Scope, references: Sequence[str]) -> list[str]:
    """The ids of customers that are named by id, external id or alias, each once. Raises NotFound `customer_not_found`."""
    query = select(customer_references.c.reference, customer_references.c.customer_id).where(
        in_scope(customer_references, scope), customer_references.c.reference.in_(references)
    )
    found = {row.reference: row.customer_id for row in await conn.execute(query)}
    for reference in references:
        if reference not in found:
            raise NotFound("customer_not_found", f"there is no customer {reference!r}")
    return sorted(set(found.values()))


async def subscriptions_between(
    conn: AsyncConnection,
    scope: Scope,
    start: datetime,
    end: datetime,
    *,
    customers: Sequence[str] | None,
    plan_id: str | None,
    limit: int,
) -> list[str]:
    """Ids of subscriptions that run at some instant of `[start, end)`, of these customers or of this plan, up to `limit`."""
    query = select(subscriptions.c.id).where(
        in_scope(subscriptions, scope),
        subscriptions.c.start_at < end,
        or_(subscriptions.c.end_at.is_(None), subscriptions.c.end_at > start),
    )
    if customers is not None:
        query = query.where(subscriptions.c.customer_id.in_(customers))
    if plan_id is not None:
        of_plan = select(plan_versions.c.id).where(plan_versions.c.plan_id == plan_id)
        query = query.where(subscriptions.c.plan_version_id.in_(of_plan))
    rows = await conn.execute(query.order_by(subscriptions.c.customer_id, subscriptions.c.id).limit(limit))
    return list(rows.scalars())
