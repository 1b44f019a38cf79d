"""Who invoices are from and to: read when they are made, kept with them, and read again when they are shown."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, Select, and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.parties import default_profile, plans_billed, printed_name, printed_plan, seller_of
from schemas.billing_profiles import BillingProfileSpec
from schemas.invoice_parties import InvoiceParties, InvoiceParty
from schemas.invoices import Invoice
from schemas.scope import Scope
from stores.postgres.tables import billing_profiles, customers, invoices, plan_versions, plans, prices, subscriptions

_SELECT: Select[Any] = (
    select(
        subscriptions.c.id,
        subscriptions.c.tenant,
        subscriptions.c.environment,
        subscriptions.c.timezone,
        customers.c.id.label("customer_id"),
        customers.c.external_id,
        customers.c.name,
        customers.c.address,
        customers.c.email,
        customers.c.tax_id,
        billing_profiles.c.profile,
    )
    .join(customers, customers.c.id == subscriptions.c.customer_id)
    .outerjoin(
        billing_profiles,
        and_(
            billing_profiles.c.tenant == subscriptions.c.tenant,
            billing_profiles.c.environment == subscriptions.c.environment,
        ),
    )
)


async def parties_now(conn: AsyncConnection, made: Sequence[Invoice]) -> dict[str, InvoiceParties]:
    """By the id of the invoice: two statements, whatever their number and tenants."""
    ids = sorted({invoice.subscription_id for invoice in made})
    held = {row.id: row for row in await conn.execute(_SELECT.where(subscriptions.c.id.in_(ids)))}
    sold_in = await _plans_by_price(conn, {line.price_id for invoice in made for line in invoice.lines})
    return {invoice.id: _parties(held[invoice.subscription_id], plans_billed(invoice, sold_in)) for invoice in made}


async def parties_of(conn: AsyncConnection, invoice_id: str) -> InvoiceParties:
    """As they were when the invoice was made."""
    kept = (await conn.execute(select(invoices.c.parties).where(invoices.c.id == invoice_id))).scalar_one()
    return msgspec.convert(kept, InvoiceParties)


async def _plans_by_price(conn: AsyncConnection, price_ids: Iterable[str]) -> dict[str, str]:
    query = (
        select(prices.c.id, plans.c.key, plans.c.name, plan_versions.c.version)
        .join(plan_versions, plan_versions.c.id == prices.c.plan_version_id)
        .join(plans, plans.c.id == plan_versions.c.plan_id)
        .where(prices.c.id.in_(sorted(price_ids)))
    )
    return {row.id: printed_plan(row.name, row.key, row.version) for row in await conn.execute(query)}


def _parties(row: Row[Any], plan: str) -> InvoiceParties:
    scope = Scope(row.tenant, row.environment)
    profile = default_profile(scope) if row.profile is None else msgspec.convert(row.profile, BillingProfileSpec)
    return InvoiceParties(
        seller=seller_of(profile),
        customer=InvoiceParty(
            name=printed_name(row.name, row.external_id, row.customer_id),
            address=tuple(row.address),
            email=row.email,
            tax_id=row.tax_id,
        ),
        timezone=row.timezone,
        plan=plan,
    )
