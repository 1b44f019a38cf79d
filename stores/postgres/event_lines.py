"""Which invoice lines one event is billed in."""

from datetime import datetime

from msgspec import Struct
from sqlalchemy import BigInteger, cast, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.event_records import StoredEvent
from schemas.scope import Scope
from stores.postgres.rows import in_scope
from stores.postgres.tables import customer_references, invoice_lines, invoices


class EventLine(Struct, frozen=True, kw_only=True):
    """A line whose quantity counts the event."""

    invoice_id: str
    line_id: str
    meter_id: str
    period_start: datetime
    period_end: datetime


async def lines_of_event(conn: AsyncConnection, scope: Scope, event: StoredEvent) -> list[EventLine]:
    """Usage lines of the customer's invoices that are not void, of a meter that matched the event, whose period holds
    its time and whose cutoff its block lies below (protocol 10); of an adjustment, not below what was billed before. The customer is who the reference means now.
    """
    matched = {(match.meter_id, match.generation) for match in event.matches}
    if not matched:
        return []
    query = (
        select(
            invoice_lines.c.invoice_id,
            invoice_lines.c.id,
            invoice_lines.c.meter_id,
            invoice_lines.c.period_start,
            invoice_lines.c.period_end,
        )
        .join(invoices, invoices.c.id == invoice_lines.c.invoice_id)
        .join(customer_references, customer_references.c.customer_id == invoices.c.customer_id)
        .where(
            in_scope(invoices, scope),
            in_scope(customer_references, scope),
            customer_references.c.reference == event.customer,
            invoices.c.status != "void",
            invoices.c.cut > event.cut,
            tuple_(invoice_lines.c.meter_id, invoice_lines.c.generation).in_(sorted(matched)),
            # What an adjustment counts was not billed before.
            or_(
                invoice_lines.c.adjusts.is_(None),
                cast(invoice_lines.c.adjusts["cut"].astext, BigInteger) <= event.cut,
            ),
            invoice_lines.c.period_start <= event.time,
            invoice_lines.c.period_end > event.time,
        )
        .order_by(invoice_lines.c.period_start, invoice_lines.c.id)
    )
    return [
        EventLine(
            invoice_id=row.invoice_id,
            line_id=row.id,
            meter_id=row.meter_id,
            period_start=row.period_start,
            period_end=row.period_end,
        )
        for row in await conn.execute(query)
    ]
