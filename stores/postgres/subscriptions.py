"""Subscriptions as they are kept."""

from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import NotFound
from domain.subscriptions import status_at
from schemas.periods import Period
from schemas.scope import Scope
from schemas.subscriptions import Subscription
from stores.postgres.rows import in_scope, page
from stores.postgres.tables import plan_versions, subscriptions

_SELECT = select(subscriptions, plan_versions.c.plan_id).join(
    plan_versions, plan_versions.c.id == subscriptions.c.plan_version_id
)


def subscription_of(row: Row[Any], known_at: datetime) -> Subscription:
    return Subscription(
        id=row.id,
        customer_id=row.customer_id,
        plan_id=row.plan_id,
        plan_version_id=row.plan_version_id,
        status=status_at(known_at, row.start_at, row.end_at),
        billing=row.billing,
        timezone=row.timezone,
        start_at=row.start_at,
        end_at=row.end_at,
        closed_to=row.closed_to,
        next_close_at=row.next_close_at,
        revision=row.revision,
        created_at=row.created_at,
    )


async def create_subscription(conn: AsyncConnection, scope: Scope, held: Subscription, anchor_at: datetime) -> None:
    """Safe to repeat by its id."""
    await conn.execute(
        insert(subscriptions).values(
            id=held.id,
            tenant=scope.tenant,
            environment=scope.environment,
            customer_id=held.customer_id,
            plan_version_id=held.plan_version_id,
            status=held.status,
            billing=held.billing,
            timezone=held.timezone,
            start_at=held.start_at,
            end_at=held.end_at,
            anchor_at=anchor_at,
            closed_to=held.closed_to,
            next_close_at=held.next_close_at,
            created_at=held.created_at,
        )
    )


async def get_subscription(
    conn: AsyncConnection, scope: Scope, subscription_id: str, known_at: datetime, *, for_update: bool = False
) -> Subscription:
    """Raises NotFound `subscription_not_found`. `for_update` holds its row until the transaction ends."""
    query = _SELECT.where(in_scope(subscriptions, scope), subscriptions.c.id == subscription_id)
    if for_update:
        query = query.with_for_update(of=subscriptions)
    row = (await conn.execute(query)).first()
    if row is None:
        raise NotFound("subscription_not_found", f"there is no subscription {subscription_id!r}")
    return subscription_of(row, known_at)


async def list_subscriptions(
    conn: AsyncConnection, scope: Scope, known_at: datetime, *, limit: int, after: str | None, customer_id: str | None
) -> list[Subscription]:
    """Oldest first, up to `limit + 1`."""
    query = _SELECT.where(in_scope(subscriptions, scope))
    if customer_id is not None:
        query = query.where(subscriptions.c.customer_id == customer_id)
    rows = await conn.execute(page(query, subscriptions.c.id, limit=limit, after=after))
    return [subscription_of(row, known_at) for row in rows]


async def end_subscription(
    conn: AsyncConnection, scope: Scope, held: Subscription, end_at: datetime, left: Period | None
) -> None:
    """Sets the end; `left` is the period to close next, given that end. Repeating it changes nothing more."""
    await conn.execute(
        update(subscriptions)
        .where(in_scope(subscriptions, scope), subscriptions.c.id == held.id)
        .values(
            end_at=end_at,
            status="cancelled",
            next_close_at=None if left is None else left.end,
            revision=subscriptions.c.revision + 1,
        )
    )
