"""Billing periods in PostgreSQL: which are due, which are billed, and why some stand still."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Row, Select, select, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.closing import ClosableSubscription, DuePeriod, FailedPeriod
from schemas.invoices import Invoice
from schemas.meters import Meter
from schemas.scope import Scope
from stores.postgres.subscriptions import life_of
from stores.postgres.tables import billed_periods, closing_failures, meters, plan_versions, subscriptions

CLOSING_KIND = "usage"
ADJUSTMENT_KIND = "adjustment"
CLOSING_SEQUENCE = 0

_SELECT = select(subscriptions, plan_versions.c.cadence).join(
    plan_versions, plan_versions.c.id == subscriptions.c.plan_version_id
)


def _closable(row: Row[Any]) -> ClosableSubscription:
    return ClosableSubscription(
        id=row.id,
        scope=Scope(row.tenant, row.environment),
        customer_id=row.customer_id,
        plan_version_id=row.plan_version_id,
        billing=row.billing,
        cadence=row.cadence,
        timezone=row.timezone,
        start_at=row.trial_end_at or row.start_at,
        end_at=row.end_at,
        closed_to=row.closed_to,
        next_close_at=row.next_close_at,
        terms_revision=row.terms_revision,
        life=life_of(row),
    )


async def is_any_due(conn: AsyncConnection, before: datetime) -> bool:
    """Whether a period of any tenant ends at `before` or earlier and is not closed."""
    query = select(subscriptions.c.id).where(subscriptions.c.next_close_at <= before).limit(1)
    return (await conn.execute(query)).first() is not None


async def due_subscriptions(
    conn: AsyncConnection, before: datetime, *, after: str, limit: int
) -> list[ClosableSubscription]:
    """Subscriptions of all tenants with a period that ends at `before` or earlier and is not closed, by id."""
    query = _SELECT.where(subscriptions.c.next_close_at <= before, subscriptions.c.id > after)
    return [_closable(row) for row in await conn.execute(query.order_by(subscriptions.c.id).limit(limit))]


async def closable_subscriptions(conn: AsyncConnection, ids: Sequence[str]) -> dict[str, ClosableSubscription]:
    rows = await conn.execute(_SELECT.where(subscriptions.c.id.in_(ids)))
    return {row.id: _closable(row) for row in rows}


async def billed_among(conn: AsyncConnection, periods: Sequence[DuePeriod]) -> set[tuple[str, datetime]]:
    """Those of `periods` that have their closing invoice, as (subscription id, start)."""
    query = select(billed_periods.c.subscription_id, billed_periods.c.period_start).where(
        tuple_(billed_periods.c.subscription_id, billed_periods.c.period_start).in_(
            [(period.subscription_id, period.start) for period in periods]
        ),
        billed_periods.c.kind == CLOSING_KIND,
        billed_periods.c.sequence == CLOSING_SEQUENCE,
    )
    return {(row.subscription_id, row.period_start) for row in await conn.execute(query)}


async def is_closing_invoice(conn: AsyncConnection, invoice: Invoice) -> bool:
    """Whether it is the invoice of its period; one of adjustments alone is not."""
    query = select(billed_periods.c.invoice_id).where(
        billed_periods.c.subscription_id == invoice.subscription_id,
        billed_periods.c.period_start == invoice.period_start,
        billed_periods.c.period_end == invoice.period_end,
        billed_periods.c.kind == CLOSING_KIND,
        billed_periods.c.sequence == CLOSING_SEQUENCE,
    )
    return (await conn.execute(query)).scalar_one_or_none() == invoice.id


async def meters_by_id(conn: AsyncConnection, ids: Sequence[str]) -> dict[str, Meter]:
    """Whatever their tenant: for jobs that run over all of them."""
    rows = await conn.execute(select(meters).where(meters.c.id.in_(ids)))
    return {row.id: msgspec.convert(row.definition, Meter) for row in rows}


async def keep_failures(conn: AsyncConnection, failed: Sequence[FailedPeriod], now: datetime) -> None:
    """One row a period that stands still, with its last reason; gone once it is closed. Repeating counts one attempt more.

    `failed` are of different periods.
    """
    if not failed:
        return
    statement = upsert(closing_failures).values(
        [
            {
                "subscription_id": one.subscription_id,
                "period_start": one.start,
                "period_end": one.end,
                "code": one.code,
                "message": one.message,
                "failed_at": now,
            }
            for one in failed
        ]
    )
    again = {
        "code": statement.excluded.code,
        "message": statement.excluded.message,
        "failed_at": statement.excluded.failed_at,
        "attempts": closing_failures.c.attempts + 1,
    }
    await conn.execute(statement.on_conflict_do_update(index_elements=_period_columns(), set_=again))


async def failures_of(conn: AsyncConnection, subscription_id: str) -> list[FailedPeriod]:
    query: Select[Any] = select(closing_failures).where(closing_failures.c.subscription_id == subscription_id)
    return [
        FailedPeriod(
            subscription_id=row.subscription_id,
            start=row.period_start,
            end=row.period_end,
            code=row.code,
            message=row.message,
        )
        for row in await conn.execute(query.order_by(closing_failures.c.period_start))
    ]


def _period_columns() -> list[Any]:
    return [closing_failures.c.subscription_id, closing_failures.c.period_start, closing_failures.c.period_end]
