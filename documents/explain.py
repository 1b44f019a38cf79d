"""From an invoice down to the events: each line, the steps of its price, the windows of its usage."""

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from documents.lines import document_line
from documents.steps import step_sentence
from domain.aggregates import is_additive
from domain.errors import Invalid
from domain.explanations import bills_the_aggregate, counts_usage
from domain.money import EXACT, ZERO, total
from domain.quantities import plain_quantity
from schemas.explanations import (
    ExplainedLine,
    ExplainedStep,
    ExplainedUsage,
    ExplainedWindow,
    InvoiceExplanation,
    LineUsage,
)
from schemas.invoices import InvoiceLine, KeptInvoice
from schemas.meters import Meter
from schemas.prices import PlanPrice, RatedStep


def explain_invoice(
    invoice: KeptInvoice,
    *,
    zone: str,
    prices: Mapping[str, PlanPrice],
    meters: Mapping[str, Meter],
    usage: Mapping[str, LineUsage],
    line_id: str | None = None,
) -> InvoiceExplanation:
    """All lines, or the one of `line_id`. `usage` maps line ids to what their meters hold in their periods at the
    invoice's cut.

    `prices` and `meters` are by id. A line that is in none of them is explained by what it says itself.
    Raises Invalid `amounts_disagree` where lines or steps do not sum, `unknown_currency`, `unknown_timezone`.
    """
    if total([line.amount for line in invoice.lines]) != invoice.subtotal:
        raise Invalid("amounts_disagree", f"the lines of invoice {invoice.id} do not sum to its subtotal")
    return InvoiceExplanation(
        invoice_id=invoice.id,
        number=invoice.number,
        currency=invoice.currency,
        timezone=zone,
        cut=invoice.cut,
        as_of=invoice.as_of,
        lines=tuple(
            _line(invoice, number, line, zone, prices, meters, usage)
            for number, line in enumerate(invoice.lines, start=1)
            if line_id in (None, line.id)
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
    usage: Mapping[str, LineUsage],
) -> ExplainedLine:
    shown = document_line(number, line, prices.get(line.price_id), invoice.currency, zone)
    meter = None if line.meter_id is None else meters.get(line.meter_id)
    read = usage.get(line.id)
    about = ", ".join(part for part in (shown.period, shown.pricing) if part)
    # A fee and what fills a line up are of no units that anybody would count.
    units = f"{shown.quantity.text} units come to " if counts_usage(line) else ""
    return ExplainedLine(
        line_id=line.id,
        kind=line.kind,
        description=line.description,
        text=f"{shown.description} ({about}): {units}{invoice.currency} {shown.amount.text}",
        period_start=line.period_start,
        period_end=line.period_end,
        quantity=line.quantity,
        steps=_steps(line.steps, invoice.currency),
        exact_amount=line.exact_amount,
        rounding=EXACT.subtract(line.amount, line.exact_amount),
        amount=line.amount,
        usage=None if meter is None or read is None else _usage(invoice, line, meter, prices.get(line.price_id), read),
    )


def _steps(steps: tuple[RatedStep, ...], currency: str) -> tuple[ExplainedStep, ...]:
    explained = []
    so_far = ZERO
    for step in steps:
        so_far = EXACT.add(so_far, step.amount)
        explained.append(ExplainedStep(text=step_sentence(step, currency), step=step, sum=so_far))
    return tuple(explained)


def _usage(
    invoice: KeptInvoice, line: InvoiceLine, meter: Meter, price: PlanPrice | None, read: LineUsage
) -> ExplainedUsage:
    whole = bills_the_aggregate(line, meter.aggregation, None if price is None else price.price)
    used = ZERO if read.total is None else read.total
    billed = line.quantity if line.adjusts is None else line.adjusts.quantity_after
    return ExplainedUsage(
        meter_id=meter.id,
        meter_key=meter.key,
        generation=read.generation,
        aggregation=meter.aggregation,
        additive=is_additive(meter.aggregation),
        window=read.window,
        windows=tuple(
            ExplainedWindow(
                start=start,
                end=end,
                value=None if value is None else plain_quantity(value),
                events=_request(invoice, line, start, end),
            )
            for start, end, value in read.windows
        ),
        total=None if read.total is None else plain_quantity(read.total),
        same=used == billed if whole else None,
        events=_request(invoice, line, line.period_start, line.period_end),
    )


def _request(invoice: KeptInvoice, line: InvoiceLine, start: datetime, end: datetime) -> str:
    """Lists what the line counts in `[start, end)`, by the names, the meter's generation and the cut of the invoice."""
    question = urlencode({"from": _instant(start), "to": _instant(end)})
    return f"/v1/invoices/{quote(invoice.id)}/lines/{quote(line.id)}/events?{question}"


def _instant(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
