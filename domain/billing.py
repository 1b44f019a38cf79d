"""From periods and their usage to invoices, and from an invoice to what it comes to when it is computed again."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from msgspec.structs import replace

from domain.billed_parts import meters_sold, parts_of, place_of
from domain.closing import bill_period, check_recount
from domain.customers import references_of
from domain.errors import Invalid, MeterstreamError, NotFound, Unavailable
from domain.money import ZERO
from domain.quantities import plain_quantity
from schemas.billing import (
    Amount,
    BilledMeter,
    BilledPart,
    Billing,
    Contracts,
    Counted,
    CountedBy,
    Recomputation,
    RecomputedLine,
    Totals,
)
from schemas.closing import ClosableSubscription, DuePeriod, FailedPeriod
from schemas.invoices import Invoice, InvoiceLine, KeptInvoice
from schemas.plans import Plan
from schemas.scope import Scope
from schemas.usage import UsageRange


def counted_by(contracts: Contracts, held: ClosableSubscription) -> CountedBy:
    """What usage of this subscription is read by now; meters that are not there are left out."""
    sold = meters_sold(held, contracts.plans[held.plan_version_id])
    return CountedBy(
        references=tuple(references_of(contracts.customers[held.customer_id])),
        generations={
            meter_id: contracts.meters[meter_id].generation for meter_id in sold if meter_id in contracts.meters
        },
    )


def ranges_of(contracts: Contracts, periods: Sequence[DuePeriod]) -> dict[Scope, dict[BilledMeter, UsageRange]]:
    """The usage that the invoices of `periods` need; meters that are not there are left out."""
    ranges: dict[Scope, dict[BilledMeter, UsageRange]] = {}
    for period in periods:
        held = contracts.held[period.subscription_id]
        plan = contracts.plans[held.plan_version_id]
        found = period_ranges(held, plan, period, counted_by(contracts, held))
        ranges.setdefault(held.scope, {}).update(found)
    return ranges


def period_ranges(
    held: ClosableSubscription, plan: Plan, period: DuePeriod, by: CountedBy
) -> dict[BilledMeter, UsageRange]:
    """By the place that each part of the period which is usage has in what is read."""
    return {
        place: UsageRange(
            meter_id=place.meter_id,
            generation=by.generations[place.meter_id],
            references=by.references,
            start=part.start,
            end=part.end,
            spans=part.spans,
            period=(period.start, period.end),
        )
        for part in parts_of(held, plan, period)
        if (place := place_of(held, period, part)) is not None and place.meter_id in by.generations
    }


def bill(
    contracts: Contracts,
    periods: Sequence[DuePeriod],
    usage: Mapping[BilledMeter, Counted],
    cut: int,
    new_id: Callable[[str], str],
) -> Billing:
    """The invoices of `periods`, all of one subscription and in order, up to the first that cannot be billed."""
    held = contracts.held[periods[0].subscription_id]
    plan = contracts.plans[held.plan_version_id]
    made: list[Invoice] = []
    failed: FailedPeriod | None = None
    for period in periods:
        try:
            made.append(_invoice(held, plan, period, usage, cut, new_id))
        except Unavailable:
            raise
        except MeterstreamError as error:
            failed = failure_of(period, error)
            break
    return Billing(held=held, invoices=tuple(made), by=counted_by(contracts, held), failed=failed)


def failure_of(period: DuePeriod, error: MeterstreamError) -> FailedPeriod:
    return FailedPeriod(
        subscription_id=period.subscription_id,
        start=period.start,
        end=period.end,
        code=error.code,
        message=error.message,
    )


def recomputed(
    invoice: KeptInvoice, held: ClosableSubscription, plan: Plan, usage: Mapping[BilledMeter, Counted]
) -> Recomputation:
    """The invoice beside what its period comes to with the prices of `plan` (the version it was made with) and the usage
    that was read at its cut. A function of its arguments only.
    """
    period = DuePeriod(subscription_id=held.id, start=invoice.period_start, end=invoice.period_end)
    parts = parts_of(held, plan, period)
    windows, events = (
        bill_period(
            invoice_id=invoice.id,
            line_ids=[str(number) for number in range(len(parts))],
            held=held,
            currency=plan.currency,
            parts=[_metered(held, period, part, usage, pick) for part in parts],
            period=period,
            cut=invoice.cut,
        )
        for pick in (_value, _recount)
    )
    lines = tuple(side_by_side(line, _line_of(windows, line), _line_of(events, line)) for line in invoice.lines)
    same = all(line.same for line in lines) and windows.total == events.total == invoice.total
    return Recomputation(
        invoice_id=invoice.id,
        number=invoice.number,
        currency=invoice.currency,
        cut=invoice.cut,
        as_of=invoice.as_of,
        same=same,
        lines=lines,
        total=Totals(billed=invoice.total, windows=windows.total, events=events.total),
    )


def _value(counted: Counted) -> Decimal | None:
    return counted.value


def _recount(counted: Counted) -> Decimal | None:
    return counted.recount


def _line_of(invoice: Invoice, line: InvoiceLine) -> InvoiceLine | None:
    return next((one for one in invoice.lines if _named(one) == _named(line)), None)


def _named(line: InvoiceLine) -> tuple[str, str, str, datetime]:
    """What a line is called whenever its period is computed: ids are new each time."""
    return line.price_id, line.kind, line.steps[0].kind if line.kind == "true_up" else "", line.period_start


def side_by_side(line: InvoiceLine, windows: InvoiceLine | None, events: InvoiceLine | None) -> RecomputedLine:
    """A line as it was billed, beside what it comes to from either source."""
    billed = _amount(line)
    from_windows = None if windows is None else _amount(windows)
    from_events = None if events is None else _amount(events)
    return RecomputedLine(
        price_key=line.price_key,
        meter_id=line.meter_id,
        same=billed == from_windows == from_events,
        billed=billed,
        windows=from_windows,
        events=from_events,
    )


def _amount(line: InvoiceLine) -> Amount:
    """Without trailing zeros, so that equal numbers read alike."""
    return Amount(
        quantity=plain_quantity(line.quantity),
        exact_amount=plain_quantity(line.exact_amount),
        amount=line.amount,
    )


def _invoice(
    held: ClosableSubscription,
    plan: Plan,
    period: DuePeriod,
    usage: Mapping[BilledMeter, Counted],
    cut: int,
    new_id: Callable[[str], str],
) -> Invoice:
    parts = parts_of(held, plan, period)
    for place in filter(None, (place_of(held, period, part) for part in parts)):
        counted = usage.get(place)
        if counted is None:
            message = f"a price of the plan {plan.key} refers to the unknown meter {place.meter_id}"
            raise NotFound("meter_not_found", message)
        check_recount(place.meter_id, counted.value, counted.recount)
    return bill_period(
        invoice_id=new_id("inv"),
        line_ids=[new_id("lin") for _ in parts],
        held=held,
        currency=plan.currency,
        parts=[_metered(held, period, part, usage, _value) for part in parts],
        period=period,
        cut=cut,
    )


def _metered(
    held: ClosableSubscription,
    period: DuePeriod,
    part: BilledPart,
    usage: Mapping[BilledMeter, Counted],
    pick: Callable[[Counted], Decimal | None],
) -> BilledPart:
    """The part with its usage; an aggregate without a value is priced as 0 units. Raises Invalid `usage_missing`."""
    place = place_of(held, period, part)
    if place is None:
        return part
    if place not in usage:
        raise Invalid("usage_missing", f"the usage of meter {place.meter_id} was not read")
    quantity = pick(usage[place])
    return replace(part, quantity=ZERO if quantity is None else quantity)
