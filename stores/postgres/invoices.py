"""Invoices with their lines as they are kept. A finalized one never changes."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Row, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import NotFound
from domain.quantities import plain_quantity
from schemas.billing import CountedBy
from schemas.invoice_parties import InvoiceParties
from schemas.invoices import AdjustedUsage, InvoiceLine, KeptInvoice
from schemas.prices import RatedStep
from schemas.scope import Scope
from stores.postgres.copying import copy_rows
from stores.postgres.invoice_parties import parties_now
from stores.postgres.rows import in_scope, page
from stores.postgres.tables import invoice_lines, invoices, prices


class InvoiceToKeep(Struct, frozen=True, kw_only=True):
    """`by` is what its usage was read by, `terms_revision` the last change of the subscription that it was made with."""

    scope: Scope
    invoice: KeptInvoice
    by: CountedBy
    terms_revision: int | None = None


async def insert_invoices(conn: AsyncConnection, made: Sequence[InvoiceToKeep]) -> None:
    """Four statements, whatever their number. Idempotency key: the invoice's id.

    Each keeps who it is from and to as they are now: what is printed of it never changes.
    """
    parties = await parties_now(conn, [one.invoice for one in made])
    await copy_rows(conn, invoices, [_invoice_values(one, parties[one.invoice.id]) for one in made])
    lines = [
        _line_values(one.invoice.id, position, line, one.by.generations)
        for one in made
        for position, line in enumerate(one.invoice.lines)
    ]
    await copy_rows(conn, invoice_lines, lines)


async def get_invoice(conn: AsyncConnection, scope: Scope, reference: str) -> KeptInvoice:
    """By id or number. Raises NotFound `invoice_not_found`."""
    named = or_(invoices.c.id == reference, invoices.c.number == reference)
    row = (await conn.execute(select(invoices).where(in_scope(invoices, scope), named))).first()
    if row is None:
        raise NotFound(
            "invoice_not_found", f"there is no invoice {reference!r}; GET /v1/invoices lists those there are"
        )
    return (await _with_lines(conn, [row]))[0]


async def counted_by_of(conn: AsyncConnection, invoice_id: str) -> CountedBy:
    """What the invoice's usage was read by; no references where it was made before they were kept."""
    names = select(invoices.c.customer_references).where(invoices.c.id == invoice_id)
    references = (await conn.execute(names)).scalar_one()
    lines = select(invoice_lines.c.meter_id, invoice_lines.c.generation).where(
        invoice_lines.c.invoice_id == invoice_id, invoice_lines.c.meter_id.is_not(None), _of_its_period()
    )
    generations = {row.meter_id: row.generation for row in await conn.execute(lines)}
    return CountedBy(references=tuple(references or ()), generations=generations)


def _of_its_period() -> ColumnElement[bool]:
    """Lines of the period that the invoice is for: adjustments are of earlier ones."""
    return invoice_lines.c.kind != "adjustment"


async def plan_version_of(conn: AsyncConnection, invoice_id: str) -> str | None:
    """The plan version whose prices the invoice was made with; None when it has no lines but adjustments."""
    query = (
        select(prices.c.plan_version_id)
        .join(invoice_lines, invoice_lines.c.price_id == prices.c.id)
        .where(invoice_lines.c.invoice_id == invoice_id, _of_its_period())
        .limit(1)
    )
    found: str | None = (await conn.execute(query)).scalar_one_or_none()
    return found


async def terms_revision_of(conn: AsyncConnection, invoice_id: str) -> int | None:
    """Up to which change of its subscription's history the invoice was made; None for one of before there were any."""
    query = select(invoices.c.terms_revision).where(invoices.c.id == invoice_id)
    found: int | None = (await conn.execute(query)).scalar_one()
    return found


async def list_invoices(
    conn: AsyncConnection,
    scope: Scope,
    *,
    limit: int,
    after: str | None,
    customer_id: str | None = None,
    subscription_id: str | None = None,
) -> list[KeptInvoice]:
    """Oldest first, up to `limit + 1`."""
    query = select(invoices).where(in_scope(invoices, scope))
    if customer_id is not None:
        query = query.where(invoices.c.customer_id == customer_id)
    if subscription_id is not None:
        query = query.where(invoices.c.subscription_id == subscription_id)
    rows = await conn.execute(page(query, invoices.c.id, limit=limit, after=after))
    return await _with_lines(conn, rows.all())


async def _with_lines(conn: AsyncConnection, rows: Sequence[Row[Any]]) -> list[KeptInvoice]:
    lines: dict[str, list[InvoiceLine]] = {row.id: [] for row in rows}
    query = select(invoice_lines).where(invoice_lines.c.invoice_id.in_(list(lines)))
    for line in await conn.execute(query.order_by(invoice_lines.c.invoice_id, invoice_lines.c.position)):
        lines[line.invoice_id].append(_line(line))
    return [_invoice(row, lines[row.id]) for row in rows]


def _invoice_values(made: InvoiceToKeep, parties: InvoiceParties) -> dict[str, Any]:
    invoice = made.invoice
    return {
        "id": invoice.id,
        "tenant": made.scope.tenant,
        "environment": made.scope.environment,
        "number": invoice.number,
        "customer_id": invoice.customer_id,
        "subscription_id": invoice.subscription_id,
        "status": invoice.state,
        "currency": invoice.currency,
        "period_start": invoice.period_start,
        "period_end": invoice.period_end,
        "subtotal": invoice.subtotal,
        "total": invoice.total,
        "amount_due": invoice.amount_due,
        "cut": invoice.cut,
        "as_of": invoice.as_of,
        "issued_at": invoice.issued_at,
        "customer_references": list(made.by.references),
        "parties": msgspec.json.encode(parties).decode(),
        "terms_revision": made.terms_revision,
    }


def _line_values(invoice_id: str, position: int, line: InvoiceLine, generations: Mapping[str, int]) -> dict[str, Any]:
    return {
        "invoice_id": invoice_id,
        "position": position,
        "id": line.id,
        "kind": line.kind,
        "price_id": line.price_id,
        "price_key": line.price_key,
        "description": line.description,
        "meter_id": line.meter_id,
        "generation": _generation(line, generations),
        "quantity": line.quantity,
        "exact_amount": line.exact_amount,
        "amount": line.amount,
        "period_start": line.period_start,
        "period_end": line.period_end,
        "steps": msgspec.json.encode(line.steps).decode(),
        "adjusts": None if line.adjusts is None else msgspec.json.encode(line.adjusts).decode(),
        "spans": msgspec.json.encode(line.spans).decode() if line.spans else None,
    }


def _generation(line: InvoiceLine, generations: Mapping[str, int]) -> int | None:
    """An adjustment counts by the generation that its period was billed by."""
    if line.adjusts is not None:
        return line.adjusts.generation
    return None if line.meter_id is None else generations[line.meter_id]


def _line(row: Row[Any]) -> InvoiceLine:
    return InvoiceLine(
        id=row.id,
        kind=row.kind,
        price_id=row.price_id,
        price_key=row.price_key,
        description=row.description,
        meter_id=row.meter_id,
        quantity=plain_quantity(row.quantity),
        period_start=row.period_start,
        period_end=row.period_end,
        exact_amount=plain_quantity(row.exact_amount),
        amount=row.amount,
        steps=tuple(_plain_step(step) for step in msgspec.convert(row.steps, tuple[RatedStep, ...])),
        adjusts=msgspec.convert(row.adjusts, AdjustedUsage | None),
        spans=spans_of(row),
    )


def spans_of(row: Row[Any]) -> tuple[tuple[datetime, datetime], ...]:
    return msgspec.convert(row.spans or (), tuple[tuple[datetime, datetime], ...])


def _plain_step(step: RatedStep) -> RatedStep:
    return msgspec.structs.replace(
        step,
        from_quantity=plain_quantity(step.from_quantity),
        to_quantity=plain_quantity(step.to_quantity),
        quantity=plain_quantity(step.quantity),
        unit_amount=plain_quantity(step.unit_amount),
        amount=plain_quantity(step.amount),
    )


def _invoice(row: Row[Any], lines: Sequence[InvoiceLine]) -> KeptInvoice:
    return KeptInvoice(
        id=row.id,
        customer_id=row.customer_id,
        subscription_id=row.subscription_id,
        currency=row.currency,
        state=row.status,
        period_start=row.period_start,
        period_end=row.period_end,
        cut=row.cut,
        lines=tuple(lines),
        subtotal=row.subtotal,
        total=row.total,
        amount_due=row.amount_due,
        number=row.number,
        as_of=row.as_of,
        issued_at=row.issued_at,
    )
