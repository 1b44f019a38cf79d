"""What an invoice was made from, as far as PostgreSQL knows: its prices, its meters, and the names it was counted by."""

from collections.abc import Mapping

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.customers import references_of
from schemas.invoice_parties import InvoiceParties
from schemas.invoices import KeptInvoice
from schemas.meters import Meter
from schemas.prices import PlanPrice
from schemas.scope import Scope
from stores.postgres.closings import meters_by_id
from stores.postgres.customers import customers_by_id
from stores.postgres.invoice_parties import parties_of
from stores.postgres.invoices import counted_by_of, get_invoice
from stores.postgres.prices import billed_prices
from stores.postgres.tables import invoice_lines


class PrintedInvoice(msgspec.Struct, frozen=True, kw_only=True):
    """What a document is made of; `prices` by id."""

    invoice: KeptInvoice
    parties: InvoiceParties
    prices: Mapping[str, PlanPrice]


class InvoiceBasis(msgspec.Struct, frozen=True, kw_only=True):
    """`prices` and `meters` by id, `generations` by the id of the line; `timezone` is the zone of its periods.

    `references` are all names that its usage was counted by.
    """

    invoice: KeptInvoice
    timezone: str
    prices: Mapping[str, PlanPrice]
    meters: Mapping[str, Meter]
    generations: Mapping[str, int]
    references: tuple[str, ...]


async def invoice_basis(conn: AsyncConnection, scope: Scope, reference: str) -> InvoiceBasis:
    """By id or number. Raises NotFound `invoice_not_found`.

    References are those that the invoice was counted by; of today, where it was made before they were kept.
    """
    invoice = await get_invoice(conn, scope, reference)
    references = (await counted_by_of(conn, invoice.id)).references
    if not references:
        customers = await customers_by_id(conn, [invoice.customer_id])
        references = tuple(references_of(customers[invoice.customer_id]))
    metered = {line.meter_id for line in invoice.lines if line.meter_id is not None}
    return InvoiceBasis(
        invoice=invoice,
        timezone=(await parties_of(conn, invoice.id)).timezone,
        prices=await _prices(conn, invoice),
        meters=await meters_by_id(conn, sorted(metered)),
        generations=await _generations(conn, invoice.id),
        references=references,
    )


async def printed_invoice(conn: AsyncConnection, scope: Scope, reference: str) -> PrintedInvoice:
    """By id or number, with its parties as they were when it was made. Raises NotFound `invoice_not_found`."""
    invoice = await get_invoice(conn, scope, reference)
    parties = await parties_of(conn, invoice.id)
    return PrintedInvoice(invoice=invoice, parties=parties, prices=await _prices(conn, invoice))


async def _prices(conn: AsyncConnection, invoice: KeptInvoice) -> dict[str, PlanPrice]:
    """The prices of its lines, by id: each as it was sold, since a price is never edited."""
    found = await billed_prices(conn, [line.price_id for line in invoice.lines])
    return {price_id: sold.price for price_id, sold in found.items()}


async def _generations(conn: AsyncConnection, invoice_id: str) -> dict[str, int]:
    query = select(invoice_lines.c.id, invoice_lines.c.generation).where(
        invoice_lines.c.invoice_id == invoice_id, invoice_lines.c.generation.is_not(None)
    )
    return {row.id: row.generation for row in await conn.execute(query)}
