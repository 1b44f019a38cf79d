"""Subscriptions as they are kept: a row of what a history comes to, beside the history."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Row, and_, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import NotFound
from domain.subscriptions import status_at
from domain.subscriptions.holding import Holding
from domain.subscriptions.standing import standing_at
from domain.subscriptions.terms import addons_at, pause_at, plan_at, quantities_at
from schemas.scope import Scope
from schemas.subscription_changes import ChangeRecord
from schemas.subscription_life import Life
from schemas.subscriptions import Subscription
from stores.postgres.rows import in_scope, page
from stores.postgres.subscription_history import append_changes
from stores.postgres.tables import plan_versions, subscriptions

_SELECT = select(subscriptions, plan_versions.c.plan_id).join(
    plan_versions, plan_versions.c.id == subscriptions.c.plan_version_id
)


def life_of(row: Row[Any]) -> Life | None:
    """The terms of a row of `subscriptions` over time; None where the row says all there is."""
    return None if row.life is None else msgspec.convert(row.life, Life)


async def subscriptions_of(conn: AsyncConnection, rows: Iterable[Row[Any]], known_at: datetime) -> list[Subscription]:
    """Rows of `subscriptions` with their plan's id, as they stand at `known_at`."""
    found = [(row, life_of(row)) for row in rows]
    planned = {plan_at(life, known_at).plan_version_id for _, life in found if life is not None}
    plan_ids: dict[str, str] = {}
    if planned:
        query = select(plan_versions.c.id, plan_versions.c.plan_id).where(plan_versions.c.id.in_(planned))
        plan_ids = {row.id: row.plan_id for row in await conn.execute(query)}
    return [_plain(row, known_at) if life is None else _living(row, life, known_at, plan_ids) for row, life in found]


def _plain(row: Row[Any], known_at: datetime) -> Subscription:
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
        trial_end_at=row.trial_end_at,
        closed_to=row.closed_to,
        next_close_at=row.next_close_at,
        terms_revision=row.terms_revision,
        revision=row.revision,
        created_at=row.created_at,
    )


def _living(row: Row[Any], life: Life, known_at: datetime, plan_ids: dict[str, str]) -> Subscription:
    plan_version_id = plan_at(life, known_at).plan_version_id
    pause = pause_at(life, known_at)
    return msgspec.structs.replace(
        _plain(row, known_at),
        plan_id=plan_ids[plan_version_id],
        plan_version_id=plan_version_id,
        status=standing_at(life, known_at).state,
        resumes_at=None if pause is None else pause.end,
        quantities={key: each.quantity for key, each in quantities_at(life, known_at).items()},
        addons={version_id: each.quantity for version_id, each in addons_at(life, known_at).items()},
    )


async def create_subscription(
    conn: AsyncConnection,
    scope: Scope,
    subscription_id: str,
    life: Life,
    held: Holding,
    records: Sequence[ChangeRecord],
) -> None:
    """Keeps the history `records` and what it comes to. Safe to repeat by its id."""
    values = {
        "id": subscription_id,
        "tenant": scope.tenant,
        "environment": scope.environment,
        "customer_id": life.customer_id,
        "billing": life.billing,
        "timezone": life.timezone,
        "created_at": life.created_at,
    }
    await conn.execute(insert(subscriptions).values({**values, **_values(held)}))
    await append_changes(conn, subscription_id, records)


async def change_subscription(
    conn: AsyncConnection, scope: Scope, subscription_id: str, held: Holding, records: Sequence[ChangeRecord]
) -> None:
    """Adds `records` to the history and writes what it comes to; the caller holds the row (`for_update`).

    Safe to repeat by the revisions and keys of the records.
    """
    await conn.execute(
        update(subscriptions)
        .where(in_scope(subscriptions, scope), subscriptions.c.id == subscription_id)
        .values({**_values(held), "revision": subscriptions.c.revision + 1})
    )
    await append_changes(conn, subscription_id, records)


def _values(held: Holding) -> dict[str, Any]:
    return {
        "plan_version_id": held.plan_version_id,
        "status": held.state,
        "start_at": held.start_at,
        "end_at": held.end_at,
        "trial_end_at": held.trial_end_at,
        "anchor_at": held.anchor_at,
        "closed_to": held.closed_to,
        "next_close_at": held.next_close_at,
        "life": None if held.life is None else msgspec.to_builtins(held.life),
        "terms_revision": held.terms_revision,
    }


async def get_subscription(
    conn: AsyncConnection, scope: Scope, subscription_id: str, known_at: datetime, *, for_update: bool = False
) -> Subscription:
    """Raises NotFound `subscription_not_found`. `for_update` holds its row until the transaction ends."""
    named = and_(in_scope(subscriptions, scope), subscriptions.c.id == subscription_id)
    if for_update:
        # By itself: a join on what the holder of the lock changes would find no row once it is free.
        await conn.execute(select(subscriptions.c.id).where(named).with_for_update())
    row = (await conn.execute(_SELECT.where(named))).first()
    if row is None:
        raise NotFound("subscription_not_found", f"there is no subscription {subscription_id!r}")
    return (await subscriptions_of(conn, [row], known_at))[0]


async def list_subscriptions(
    conn: AsyncConnection, scope: Scope, known_at: datetime, *, limit: int, after: str | None, customer_id: str | None
) -> list[Subscription]:
    """Oldest first, up to `limit + 1`."""
    query = _SELECT.where(in_scope(subscriptions, scope))
    if customer_id is not None:
        query = query.where(subscriptions.c.customer_id == customer_id)
    rows = await conn.execute(page(query, subscriptions.c.id, limit=limit, after=after))
    return await subscriptions_of(conn, rows, known_at)
