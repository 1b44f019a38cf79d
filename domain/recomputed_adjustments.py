"""Adjustment lines of an invoice computed again: what their periods hold at its cut, against what was billed before."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from msgspec.structs import replace

from domain.billing import side_by_side
from domain.late_usage import rated_again, sold_besides
from domain.money import EXACT, ZERO, total
from schemas.billing import Amount, Contracts, Counted, Recomputation, RecomputedLine, Totals
from schemas.closing import ClosableSubscription
from schemas.invoices import AdjustedUsage, InvoiceLine, KeptInvoice
from schemas.late_usage import LateMeter, SoldPrice
from schemas.usage import UsageRange


def own_part(invoice: KeptInvoice) -> KeptInvoice:
    """The invoice without its adjustments: what its own period came to."""
    lines = tuple(line for line in invoice.lines if line.adjusts is None)
    subtotal = total([line.amount for line in lines])
    return replace(invoice, lines=lines, subtotal=subtotal, total=subtotal, amount_due=subtotal)


def adjusted_ranges(invoice: KeptInvoice, references: Sequence[str]) -> dict[LateMeter, UsageRange]:
    """The usage that the adjustments of `invoice` were made from; `references` are the names it was counted by."""
    return {
        _place(invoice, line, adjusts): UsageRange(
            meter_id=line.meter_id or "",
            generation=adjusts.generation,
            references=tuple(references),
            start=line.period_start,
            end=line.period_end,
            spans=line.spans,
            period=adjusts.whole,
        )
        for line, adjusts in _adjustments(invoice)
    }


def with_adjustments(
    own: Recomputation,
    invoice: KeptInvoice,
    contracts: Contracts,
    prices: Mapping[str, SoldPrice],
    usage: Mapping[LateMeter, Counted],
) -> Recomputation:
    """The recomputation of the whole invoice, of which `own` is that of its own part. `prices` are by id; those of
    add-ons are in the contracts.
    """
    held = contracts.held[invoice.subscription_id]
    known = {**sold_besides(held), **prices}
    lines: list[RecomputedLine] = []
    for line, adjusts in _adjustments(invoice):
        counted = usage[_place(invoice, line, adjusts)]
        sold = known[line.price_id]
        windows, events = (
            _again(held, sold, line, adjusts.quantity_before, value) for value in (counted.value, counted.recount)
        )
        lines.append(side_by_side(line, windows, events))
    if not lines:
        return own
    totals = Totals(
        billed=invoice.total,
        windows=_sum(own.total.windows, lines, _windows),
        events=_sum(own.total.events, lines, _events),
    )
    return replace(
        own,
        same=own.same and all(line.same for line in lines) and totals.windows == totals.events == totals.billed,
        lines=(*own.lines, *lines),
        total=totals,
    )


def _adjustments(invoice: KeptInvoice) -> list[tuple[InvoiceLine, AdjustedUsage]]:
    return [(line, line.adjusts) for line in invoice.lines if line.adjusts is not None]


def _place(invoice: KeptInvoice, line: InvoiceLine, adjusts: AdjustedUsage) -> LateMeter:
    return LateMeter(
        invoice.subscription_id,
        line.period_start,
        line.period_end,
        line.meter_id or "",
        adjusts.generation,
        line.spans,
    )


def _again(
    held: ClosableSubscription, sold: SoldPrice, line: InvoiceLine, before: Decimal, value: Decimal | None
) -> InvoiceLine:
    after = ZERO if value is None else value
    spans = line.spans or ((line.period_start, line.period_end),)
    rated = rated_again(held, sold, spans, after, before)
    return replace(
        line,
        quantity=EXACT.subtract(after, before),
        exact_amount=total([one.exact_amount for one in rated]),
        amount=total([one.amount for one in rated]),
    )


def _sum(own: Decimal, lines: Sequence[RecomputedLine], side: Callable[[RecomputedLine], Amount | None]) -> Decimal:
    amounts = [found.amount for found in map(side, lines) if found is not None]
    return total([own, *amounts])


def _windows(line: RecomputedLine) -> Amount | None:
    return line.windows


def _events(line: RecomputedLine) -> Amount | None:
    return line.events
