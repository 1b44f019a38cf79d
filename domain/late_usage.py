"""Late usage: a period that was billed is rated again cumulatively, and the difference is billed (semantics, invoices).

It is always rated against what was billed for it so far. So a difference that comes to nothing, below one minor unit
too, needs no line: it is in the next difference.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from msgspec.structs import replace

from domain.billing import counted_by, failure_of
from domain.closing import check_recount, whole_period
from domain.errors import MeterstreamError, NotFound, Unavailable
from domain.instants import EPOCH
from domain.invoices import finalize
from domain.money import EXACT, ZERO, total
from domain.pricing import rerate
from domain.proration import share
from domain.rate_cards import cards_of_versions
from schemas.billing import Billing, Contracts, Counted, Span
from schemas.closing import ClosableSubscription, DuePeriod, FailedPeriod
from schemas.invoices import AdjustedUsage, Invoice, InvoiceLine
from schemas.late_usage import BilledUsage, ClosedSpan, LateMeter, LatePage, LateUsage, SoldPrice
from schemas.prices import RatedLine
from schemas.scope import Scope
from schemas.usage import UsageRange

_HOUR = timedelta(hours=1)
# A level that was set late before the first billed period is carried into it. No event is accepted that is older.
_CARRIED_FROM = timedelta(days=400)


def names_now(contracts: Contracts, subscription_id: str) -> tuple[str, ...]:
    """What usage of this subscription is read by now."""
    return counted_by(contracts, contracts.held[subscription_id]).references


def spans_to_read(contracts: Contracts, spans: Iterable[ClosedSpan]) -> list[tuple[Scope, UsageRange]]:
    """Where late events of `spans` would be, in order: by the names that the customer has now."""
    return [
        (
            span.scope,
            UsageRange(
                meter_id=span.meter_id,
                generation=span.generation,
                references=names_now(contracts, span.subscription_id),
                start=span.start - (_CARRIED_FROM if _is_carried(contracts, span.meter_id) else timedelta(0)),
                end=span.end,
            ),
        )
        for span in spans
    ]


def _is_carried(contracts: Contracts, meter_id: str) -> bool:
    """Whether what is late before a period may change what it holds: the level from before it counts in it."""
    return _is_level(contracts, meter_id) and contracts.meters[meter_id].carry


def _is_level(contracts: Contracts, meter_id: str) -> bool:
    meter = contracts.meters.get(meter_id)
    return meter is not None and meter.aggregation == "weighted_sum"


def late_starts(
    contracts: Contracts, spans: Sequence[ClosedSpan], hours: Sequence[Collection[int]]
) -> dict[str, datetime]:
    """The subscriptions with something to rate again, and where what may have changed of them begins. `hours` are those
    of the epoch with late usage, for each of `spans`.

    Other names change what was counted long ago too: an alias brings its events along, and takes them with it.
    """
    starts: dict[str, datetime] = {}
    for span, late in zip(spans, hours, strict=True):
        if late or _renamed(contracts, span):
            former = starts.get(span.subscription_id, span.start)
            starts[span.subscription_id] = min(former, span.start)
    return starts


def _renamed(contracts: Contracts, span: ClosedSpan) -> bool:
    return span.names is not None and set(span.names) != set(names_now(contracts, span.subscription_id))


def changed(
    contracts: Contracts,
    spans: Sequence[ClosedSpan],
    hours: Sequence[Collection[int]],
    billed: Iterable[BilledUsage],
) -> dict[str, tuple[BilledUsage, ...]]:
    """By subscription, what of `billed` may hold other usage than it was billed for; `hours` as for `late_starts`."""
    late = {
        (span.subscription_id, span.meter_id, span.generation): (_renamed(contracts, span), found)
        for span, found in zip(spans, hours, strict=True)
    }
    kept: dict[str, tuple[BilledUsage, ...]] = {}
    for one in billed:
        whole, found = late.get((one.subscription_id, one.meter_id, one.generation), (False, ()))
        if whole or any(_changes(contracts, one, hour) for hour in found):
            kept[one.subscription_id] = (*kept.get(one.subscription_id, ()), one)
    return kept


def _changes(contracts: Contracts, billed: BilledUsage, hour: int) -> bool:
    """A level counts from the start of the billing period on at least, wherever in it the line begins."""
    start = EPOCH + hour * _HOUR
    since = billed.period_start
    if _is_level(contracts, billed.meter_id) and billed.whole is not None:
        since = billed.whole[0]
    return start < billed.period_end and (_is_carried(contracts, billed.meter_id) or since < start + _HOUR)


def late_ranges(
    contracts: Contracts, billed: Mapping[str, Sequence[BilledUsage]]
) -> dict[Scope, dict[LateMeter, UsageRange]]:
    """The usage that rating `billed` again needs."""
    ranges: dict[Scope, dict[LateMeter, UsageRange]] = {}
    for subscription_id, lines in billed.items():
        names = names_now(contracts, subscription_id)
        found = ranges.setdefault(contracts.held[subscription_id].scope, {})
        found |= {
            late_meter(one): UsageRange(
                meter_id=one.meter_id,
                generation=one.generation,
                references=names,
                start=one.period_start,
                end=one.period_end,
                spans=one.spans,
                period=one.whole,
            )
            for one in lines
        }
    return ranges


def late_meter(billed: BilledUsage) -> LateMeter:
    return LateMeter(
        billed.subscription_id,
        billed.period_start,
        billed.period_end,
        billed.meter_id,
        billed.generation,
        billed.spans,
    )


def adjusted(
    billing: Billing, late: LateUsage, usage: Mapping[LateMeter, Counted], new_id: Callable[[str], str]
) -> Billing:
    """`billing` with the adjustments of earlier periods on its first invoice; no invoice where they cannot be told."""
    if not billing.invoices or billing.held.id not in late.billed:
        return billing
    first, *others = billing.invoices
    try:
        lines = adjustment_lines(billing.held, late, usage, new_id)
    except Unavailable:
        raise
    except MeterstreamError as error:
        period = DuePeriod(subscription_id=billing.held.id, start=first.period_start, end=first.period_end)
        return replace(billing, invoices=(), failed=failure_of(period, error))
    return replace(billing, invoices=(with_lines(first, lines), *others))


def adjustment_invoice(
    contracts: Contracts,
    subscription_id: str,
    late: LateUsage,
    usage: Mapping[LateMeter, Counted],
    cut: int,
    new_id: Callable[[str], str],
) -> Billing:
    """Of a subscription that has ended: an invoice of adjustments alone, over the periods that they correct; none where
    there is nothing to correct.
    """
    held = contracts.held[subscription_id]
    by = counted_by(contracts, held)
    nothing = Billing(held=held, invoices=(), by=by, failed=None)
    if subscription_id not in late.billed:
        return nothing
    try:
        lines = adjustment_lines(held, late, usage, new_id)
    except Unavailable:
        raise
    except MeterstreamError as error:
        whole = _around(late.billed[subscription_id])
        return replace(nothing, failed=failure_of(replace(whole, subscription_id=held.id), error))
    if not lines:
        return nothing
    draft = Invoice(
        id=new_id("inv"),
        customer_id=held.customer_id,
        subscription_id=held.id,
        currency=late.prices[lines[0].price_id].price.currency,
        state="draft",
        period_start=min(line.period_start for line in lines),
        period_end=max(line.period_end for line in lines),
        cut=cut,
        lines=(),
        subtotal=ZERO,
        total=ZERO,
        amount_due=ZERO,
    )
    return replace(nothing, invoices=(with_lines(draft, lines),))


def _around(billed: Sequence[BilledUsage]) -> DuePeriod:
    return DuePeriod(
        subscription_id=billed[0].subscription_id,
        start=min(one.period_start for one in billed),
        end=max(one.period_end for one in billed),
    )


def too_slow(held: ClosableSubscription, error: MeterstreamError) -> FailedPeriod:
    """An ended subscription whose billed usage is more than can be read in time: it is told, and tried again."""
    period = DuePeriod(subscription_id=held.id, start=held.start_at, end=held.closed_to)
    return replace(failure_of(period, error), code="usage_too_slow")


def both(first: LatePage, second: LatePage) -> LatePage:
    return LatePage(
        looked=first.looked + second.looked,
        billed=first.billed + second.billed,
        stopped=first.stopped + second.stopped,
    )


def with_lines(invoice: Invoice, lines: Sequence[InvoiceLine]) -> Invoice:
    """The finalized invoice with these lines after its own."""
    together = (*invoice.lines, *lines)
    subtotal = total([line.amount for line in together])
    draft = replace(invoice, state="draft", lines=together, subtotal=subtotal, total=subtotal, amount_due=subtotal)
    return finalize(draft)


def adjustment_lines(
    held: ClosableSubscription, late: LateUsage, usage: Mapping[LateMeter, Counted], new_id: Callable[[str], str]
) -> list[InvoiceLine]:
    """A line for each price and billed period whose usage comes to another amount than what is billed for it.

    Raises Conflict `recount_differs`, NotFound `meter_not_found`, `price_not_found`, Invalid `usage_unfit`.
    """
    lines: list[InvoiceLine] = []
    for one in late.billed[held.id]:
        counted = usage.get(late_meter(one))
        if counted is None:
            raise NotFound("meter_not_found", f"invoice {one.invoice_id} bills the unknown meter {one.meter_id}")
        check_recount(one.meter_id, counted.value, counted.recount)
        if one.price_id not in late.prices:
            raise NotFound("price_not_found", f"invoice {one.invoice_id} bills the unknown price {one.price_id}")
        spans = one.spans or ((one.period_start, one.period_end),)
        quantity = ZERO if counted.value is None else counted.value
        rated = rated_again(held, late.prices[one.price_id], spans, quantity, one.quantity)
        amount = total([line.amount for line in rated])
        if amount:
            lines.append(_line(new_id("lin"), one, quantity, rated, amount))
    return lines


def rated_again(
    held: ClosableSubscription, sold: SoldPrice, spans: Sequence[Span], after: Decimal, before: Decimal
) -> tuple[RatedLine, ...]:
    """What `spans` of one period have to be billed in addition, now that their quantity is `after` and not `before`."""
    period = DuePeriod(subscription_id=held.id, start=spans[0][0], end=spans[-1][1])
    whole = whole_period(replace(held, cadence=sold.cadence), period)
    part = sum((share(whole.start, whole.end, *span) for span in spans), Fraction(0))
    return rerate(sold.price.price, after, before, sold.price.currency, part=part)


def sold_besides(held: ClosableSubscription) -> dict[str, SoldPrice]:
    """The prices that a subscription with changes has held, by their ids: of every phase of its plans, and of add-ons.

    What is sold to others of its batch is among them, so each has the cadence that it was sold with itself.
    """
    if held.sold is None:
        return {}
    cards = cards_of_versions(held.sold.plans.values(), held.sold.addons.values())
    return {card.price.id: SoldPrice(price=card.price, cadence=card.cadence.unit) for card in cards}


def _line(
    line_id: str, billed: BilledUsage, quantity: Decimal, rated: Sequence[RatedLine], amount: Decimal
) -> InvoiceLine:
    return InvoiceLine(
        id=line_id,
        kind="adjustment",
        price_id=billed.price_id,
        price_key=billed.price_key,
        description=billed.description,
        meter_id=billed.meter_id,
        quantity=EXACT.subtract(quantity, billed.quantity),
        period_start=billed.period_start,
        period_end=billed.period_end,
        exact_amount=total([line.exact_amount for line in rated]),
        amount=amount,
        steps=tuple(step for line in rated for step in line.steps),
        spans=billed.spans,
        adjusts=AdjustedUsage(
            invoice_id=billed.invoice_id,
            sequence=billed.adjusted + 1,
            cut=billed.cut,
            generation=billed.generation,
            quantity_before=billed.quantity,
            quantity_after=quantity,
            whole=billed.whole,
        ),
    )
