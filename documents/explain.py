"""From an invoice down to the events: each line, the steps of its price, the windows of its usage."""

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

from documents.lines import document_line
from documents.steps import step_sentence
from domain.errors import Invalid
from domain.money import EXACT, ZERO, total
from domain.quantities import plain_quantity
from schemas.explanations import (
    ExplainedLine,
    ExplainedStep,
    ExplainedUsage,
    ExplainedWindow,
    InvoiceExplanation,
)
from schemas.invoices import InvoiceLine, KeptInvoice
from schemas.meters import Meter
from schemas.prices import PlanPrice, RatedStep
from schemas.usage import Usage, UsageRow


def explain_invoice(
    invoice: KeptInvoice,
    *,
    zone: str,
    prices: Mapping[str, PlanPrice],
    meters: Mapping[str, Meter],
    usage: Mapping[str, Usage],
) -> InvoiceExplanation:
    """`usage` maps line ids to what the line's meter holds in the line's period at the invoice's cut, in windows.

    `prices` and `meters` are by id. A line that is in none of them is explained by what it says itself.
    Raises Invalid `amounts_disagree` where lines or steps do not sum, `unknown_currency`, `unknown_timezone`.
    """
    if total([line.amount for line in invoice.lines]) != invoice.subtotal:
        raise Invalid("amounts_disagree", f"the lines of invoice {invoice.id} do not sum to its subtotal")
    return InvoiceExplanation(
        invoice_id=invoice.id,
        number=invoice.number,
        currency=invoice.currency,
        cut=invoice.cut,
        as_of=invoice.as_of,
        lines=tuple(
            _line(invoice, number, line, zone, prices, meters, usage)
            for number, line in enumerate(invoice.lines, start=1)
        ),
        subtotal=invoice.subtotal,
        total=invoice.total,
        amount_due=invoice.amount_due,
    )


def _line(
    invoice: KeptInvoice,
    number: int,
    line: InvoiceLine,
    zone: str,
    prices: Mapping[str, PlanPrice],
    meters: Mapping[str, Meter],
    usage: Mapping[str, Usage],
) -> ExplainedLine:
    shown = document_line(number, line, prices.get(line.price_id), invoice.currency, zone)
    meter = None if line.meter_id is None else meters.get(line.meter_id)
    read = usage.get(line.id)
    about = ", ".join(part for part in (shown.period, shown.pricing) if part)
    return ExplainedLine(
        line_id=line.id,
        kind=line.kind,
        description=line.description,
        text=f"{shown.description} ({about}): {shown.quantity.text} units come to {invoice.currency} {shown.amount.text}",
        quantity=line.quantity,
        steps=_steps(line.steps, invoice.currency),
        exact_amount=line.exact_amount,
        rounding=EXACT.subtract(line.amount, line.exact_amount),
        amount=line.amount,
        usage=None if meter is None or read is None else _usage(invoice, line, meter, read),
    )


def _steps(steps: tuple[RatedStep, ...], currency: str) -> tuple[ExplainedStep, ...]:
    explained = []
    so_far = ZERO
    for step in steps:
        so_far = EXACT.add(so_far, step.amount)
        explained.append(ExplainedStep(text=step_sentence(step, currency), step=step, sum=so_far))
    return tuple(explained)


def _usage(invoice: KeptInvoice, line: InvoiceLine, meter: Meter, read: Usage) -> ExplainedUsage:
    billed = ZERO if read.total is None else read.total
    return ExplainedUsage(
        meter_id=meter.id,
        aggregation=meter.aggregation,
        windows=tuple(_window(invoice, meter, row) for row in read.rows),
        total=read.total,
        same=billed == (line.quantity if line.adjusts is None else line.adjusts.quantity_after),
    )


def _window(invoice: KeptInvoice, meter: Meter, row: UsageRow) -> ExplainedWindow:
    return ExplainedWindow(
        start=row.window_start,
        end=row.window_end,
        value=None if row.value is None else plain_quantity(row.value),
        events=tuple(_request(invoice, kind, row) for kind in meter.event_types),
    )


def _request(invoice: KeptInvoice, event_type: str, row: UsageRow) -> str:
    """Lists the window's events of this type as known at the invoice's cut; the meter's filters may pass over some."""
    question = {
        "customer": invoice.customer_id,
        "type": event_type,
        "from": _instant(row.window_start),
        "to": _instant(row.window_end),
        "at": invoice.cut,
    }
    return f"/v1/events?{urlencode(question)}"


def _instant(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
