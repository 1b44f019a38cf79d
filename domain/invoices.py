"""An invoice is its lines, each rounded once, and sums of them (semantics, invoice arithmetic).

Discounts, credits and taxes come between the lines and the amount due, in the order semantics fix, once they exist.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from msgspec.structs import replace

from domain.errors import Invalid
from domain.money import EXACT, ZERO, total
from domain.pricing import WHOLE, rate_lines
from domain.pricing.steps import line_of, scaled
from domain.proration import part_of, share
from schemas.billing import BilledPart
from schemas.invoices import Invoice, InvoiceLine
from schemas.periods import Period
from schemas.prices import RatedLine, RatedStep


def assemble_invoice(
    *,
    invoice_id: str,
    line_ids: Sequence[str],
    customer_id: str,
    subscription_id: str,
    currency: str,
    period_start: datetime,
    period_end: datetime,
    cut: int,
    parts: Sequence[BilledPart],
    whole: Period | None = None,
) -> Invoice:
    """The draft for one period of a subscription: one line a part, in the order of the parts, and after it what fills it
    up to its commitment or minimum.

    `line_ids` are as many as the parts. `whole` is the full period that this one is a part of (a stub): fees, minimums
    and commitments are prorated by time, usage is not. A function of its arguments only: closing the same period at the
    same cut again makes the same invoice.
    Raises Invalid `currency_mixed`, `unknown_currency`.
    """
    lines = tuple(
        _prorated(line, whole, currency)
        for line_id, part in zip(line_ids, parts, strict=True)
        for line in _lines(line_id, part, currency, _share(part, whole))
    )
    subtotal = total([line.amount for line in lines])
    return Invoice(
        id=invoice_id,
        customer_id=customer_id,
        subscription_id=subscription_id,
        currency=currency,
        state="draft",
        period_start=period_start,
        period_end=period_end,
        cut=cut,
        lines=lines,
        subtotal=subtotal,
        total=subtotal,
        amount_due=subtotal,
    )


def finalize(invoice: Invoice) -> Invoice:
    """A draft becomes open; one of nothing is paid at once. Raises Invalid `invoice_not_draft`."""
    if invoice.state != "draft":
        raise Invalid("invoice_not_draft", "only a draft is finalized")
    return replace(invoice, state="open" if invoice.amount_due else "paid")


def _share(part: BilledPart, whole: Period | None) -> Fraction:
    """How much of the full period usage is billed for. A fee is priced whole and then prorated, with what fills it up."""
    if whole is None or part.price.meter_id is None:
        return WHOLE
    spans = part.spans or ((part.start, part.end),)
    return sum((share(whole.start, whole.end, start, end) for start, end in spans), Fraction(0))


def _lines(line_id: str, part: BilledPart, currency: str, of_period: Fraction) -> list[InvoiceLine]:
    """The line of a part, and after it what fills it up: to its commitment, to its minimum (semantics, prices).

    The id of a line that fills up is that of the part's line and what it fills up to.
    """
    price = part.price
    if price.currency != currency:
        raise Invalid("currency_mixed", f"a price in {price.currency} does not belong on an invoice in {currency}")
    rated = [
        _each_unit(one, part.times, currency)
        for one in rate_lines(price.price, part.quantity, currency, part=of_period)
    ]
    return [
        InvoiceLine(
            id=line_id if one.kind == "usage" else f"{line_id}_{one.steps[0].kind}",
            kind=("fee" if price.meter_id is None else "usage") if one.kind == "usage" else "true_up",
            price_id=price.id,
            price_key=price.key,
            description=price.name or price.key,
            meter_id=price.meter_id,
            quantity=_quantity(part) if one.kind == "usage" else one.quantity,
            period_start=part.start,
            period_end=part.end,
            exact_amount=one.exact_amount,
            amount=one.amount,
            steps=one.steps,
            spans=part.spans,
        )
        for one in rated
    ]


def _quantity(part: BilledPart) -> Decimal:
    return part.quantity if part.times == 1 else EXACT.multiply(part.quantity, Decimal(part.times))


def _each_unit(line: RatedLine, times: int, currency: str) -> RatedLine:
    """The line of `times` units, each of which costs what one does: the exact amount is rounded once."""
    if times == 1:
        return line
    return line_of(line.kind, scaled(line.steps, Decimal(times)), line.quantity, currency)


def _prorated(line: InvoiceLine, whole: Period | None, currency: str) -> InvoiceLine:
    """A fee for a part of a period: the part's share of the whole amount, with the rest taken off as a step."""
    if line.meter_id is not None or whole is None or (line.period_start, line.period_end) == (whole.start, whole.end):
        return line
    part = part_of(line.amount, (whole.start, whole.end), line.period_start, line.period_end, currency)
    off = EXACT.subtract(part, line.exact_amount)
    step = RatedStep(
        kind="proration",
        from_quantity=ZERO,
        to_quantity=line.quantity,
        quantity=Decimal(1),
        unit_amount=off,
        amount=off,
    )
    return replace(line, exact_amount=part, amount=part, steps=(*line.steps, step))
