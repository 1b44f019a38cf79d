"""The upcoming invoice of a subscription, read from PostgreSQL and ClickHouse. Nothing of it is kept."""

from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.billing import ranges_of
from domain.errors import Conflict, NotFound, invalid_field
from domain.upcoming import running_period, upcoming
from schemas.closing import Cutoff
from schemas.invoices import PreviewRequest, UpcomingInvoice
from schemas.scope import Scope
from stores.billing import read_contracts
from stores.clickhouse.client import ClickhouseClient
from stores.late_usage import read_with_late
from stores.postgres.customers import get_customer
from stores.postgres.engine import autocommit
from stores.postgres.rows import in_scope
from stores.postgres.subscriptions import get_subscription
from stores.postgres.tables import subscriptions


async def subscription_meant(engine: AsyncEngine, scope: Scope, asked: PreviewRequest, now: datetime) -> str:
    """The id of the subscription that is asked about. Raises Invalid `subscription_or_customer`, NotFound
    `subscription_not_found`, `customer_not_found`, Conflict `subscription_ambiguous`.
    """
    if (asked.subscription is None) == (asked.customer is None):
        message = "exactly one of subscription and customer is sent"
        raise invalid_field("/subscription", "subscription_or_customer", message)
    async with autocommit(engine) as conn:
        if asked.subscription is not None:
            return (await get_subscription(conn, scope, asked.subscription, now)).id
        customer = await get_customer(conn, scope, asked.customer or "")
        running = select(subscriptions.c.id).where(
            in_scope(subscriptions, scope),
            subscriptions.c.customer_id == customer.id,
            or_(subscriptions.c.end_at.is_(None), subscriptions.c.end_at > now),
        )
        found: list[str] = list((await conn.execute(running.order_by(subscriptions.c.id))).scalars())
    if not found:
        raise NotFound("subscription_not_found", f"the customer {asked.customer!r} has no subscription that runs")
    if len(found) > 1:
        message = f"the customer has {len(found)} subscriptions: send one of them as `subscription`"
        raise Conflict("subscription_ambiguous", message)
    return found[0]


async def read_upcoming(
    engine: AsyncEngine, clickhouse: ClickhouseClient, subscription_id: str, cutoff: Cutoff, now: datetime
) -> UpcomingInvoice:
    """What the running period comes to at `cutoff`, a complete one. From the windows alone: closings recount what they
    bill. Raises Conflict `nothing_to_bill` and those of `upcoming`, `Unavailable`.
    """
    contracts = await read_contracts(engine, [subscription_id])
    period = running_period(contracts.held[subscription_id], now)
    ranges = ranges_of(contracts, [period])
    usage, late, late_usage = await read_with_late(engine, clickhouse, contracts, ranges, cutoff.cut, recounted=False)
    return upcoming(contracts, period, usage, late, late_usage, cutoff)
