"""Billing periods in PostgreSQL: which are due, and the one transaction that closes some."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, Select, and_, delete, insert, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.closing import invoice_number, next_period
from domain.errors import Conflict
from schemas.billing import CountedBy
from schemas.closing import ClosableSubscription, DuePeriod, FailedPeriod
from schemas.invoices import Invoice, KeptInvoice
from schemas.meters import Meter
from schemas.scope import Scope
from stores.postgres.invoices import insert_invoices, take_numbers
from stores.postgres.tables import billed_periods, closing_failures, meters, plan_versions, subscriptions

CLOSING_KIND = "usage"
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
        start_at=row.start_at,
        end_at=row.end_at,
        closed_to=row.closed_to,
        next_close_at=row.next_close_at,
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


async def meters_by_id(conn: AsyncConnection, ids: Sequence[str]) -> dict[str, Meter]:
    """Whatever their tenant: for jobs that run over all of them."""
    rows = await conn.execute(select(meters).where(meters.c.id.in_(ids)))
    return {row.id: msgspec.convert(row.definition, Meter) for row in rows}


async def close_periods(
    conn: AsyncConnection,
    held: ClosableSubscription,
    made: Sequence[Invoice],
    by: CountedBy,
    *,
    as_of: datetime,
    now: datetime,
) -> list[KeptInvoice]:
    """Keeps the invoices of consecutive periods of one subscription, the first of which begins where it is closed to,
    and moves the subscription on, in the caller's transaction: all or nothing. `by` is what their usage was read by.

    Safe to repeat: raises Conflict `subscription_moved` when the subscription is no longer as `held` says, and the
    uniqueness of (subscription, period, kind, sequence) makes a second closing of a period impossible.
    """
    last = made[-1].period_end
    left = next_period(held, last)
    moved = (
        update(subscriptions)
        .where(_is_as_held(held))
        .values(closed_to=last, next_close_at=None if left is None else left.end, revision=subscriptions.c.revision + 1)
    )
    if made[0].period_start != held.closed_to or (await conn.execute(moved)).rowcount != 1:
        raise Conflict("subscription_moved", f"the subscription {held.id} was closed or changed by another")
    numbers = await take_numbers(conn, held.scope, len(made))
    kept = [_kept(invoice, number, as_of, now) for invoice, number in zip(made, numbers, strict=True)]
    await insert_invoices(conn, held.scope, kept, by)
    await conn.execute(insert(billed_periods), [_billed(held.id, invoice) for invoice in kept])
    resolved = delete(closing_failures).where(
        closing_failures.c.subscription_id == held.id, closing_failures.c.period_start < last
    )
    await conn.execute(resolved)
    return kept


async def keep_failure(conn: AsyncConnection, failed: FailedPeriod, now: datetime) -> None:
    """One row a period that stands still, with its last reason; gone once it is closed. Repeating counts one attempt more."""
    statement = upsert(closing_failures).values(
        subscription_id=failed.subscription_id,
        period_start=failed.start,
        period_end=failed.end,
        code=failed.code,
        message=failed.message,
        failed_at=now,
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


def _is_as_held(held: ClosableSubscription) -> ColumnElement[bool]:
    """The compare of the compare-and-set: nobody closed it, cancelled it or changed its plan since it was read."""
    return and_(
        subscriptions.c.id == held.id,
        subscriptions.c.closed_to == held.closed_to,
        subscriptions.c.next_close_at == held.next_close_at,
        subscriptions.c.end_at.is_not_distinct_from(held.end_at),
        subscriptions.c.plan_version_id == held.plan_version_id,
    )


def _kept(invoice: Invoice, number: int, as_of: datetime, now: datetime) -> KeptInvoice:
    fields = {name: getattr(invoice, name) for name in invoice.__struct_fields__}
    return KeptInvoice(**fields, number=invoice_number(number), as_of=as_of, issued_at=now)


def _billed(subscription_id: str, invoice: KeptInvoice) -> dict[str, Any]:
    return {
        "subscription_id": subscription_id,
        "period_start": invoice.period_start,
        "period_end": invoice.period_end,
        "kind": CLOSING_KIND,
        "sequence": CLOSING_SEQUENCE,
        "invoice_id": invoice.id,
    }
