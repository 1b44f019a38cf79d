"""From periods and their usage to invoices, and from an invoice to what it comes to when it is computed again."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from domain.closing import bill_period, check_recount
from domain.customers import references_of
from domain.errors import MeterstreamError, NotFound, Unavailable
from domain.quantities import plain_quantity
from schemas.billing import (
    Amount,
    BilledMeter,
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
    sold = _meter_ids(contracts.plans[held.plan_version_id])
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
    return {
        BilledMeter(held.id, period.start, meter_id): UsageRange(
            meter_id=meter_id,
            generation=by.generations[meter_id],
            references=by.references,
            start=period.start,
            end=period.end,
        )
        for meter_id in _meter_ids(plan)
        if meter_id in by.generations
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
    values = {meter.meter_id: counted for meter, counted in usage.items() if meter.start == period.start}
    windows, events = (
        bill_period(
            invoice_id=invoice.id,
            line_ids=[price.id for price in plan.prices],
            held=held,
            plan=plan,
            period=period,
            cut=invoice.cut,
            usage={meter_id: pick(counted) for meter_id, counted in values.items()},
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


def _named(line: InvoiceLine) -> tuple[str, str, str]:
    """What a line is called whenever its period is computed: ids are new each time."""
    return line.price_id, line.kind, line.steps[0].kind if line.kind == "true_up" else ""


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
    values: dict[str, Decimal | None] = {}
    for meter_id in _meter_ids(plan):
        counted = usage.get(BilledMeter(held.id, period.start, meter_id))
        if counted is None:
            raise NotFound("meter_not_found", f"a price of the plan {plan.key} refers to the unknown meter {meter_id}")
        check_recount(meter_id, counted.value, counted.recount)
        values[meter_id] = counted.value
    return bill_period(
        invoice_id=new_id("inv"),
        line_ids=[new_id("lin") for _ in plan.prices],
        held=held,
        plan=plan,
        period=period,
        cut=cut,
        usage=values,
    )


def _meter_ids(plan: Plan) -> list[str]:
    return list(dict.fromkeys(price.meter_id for price in plan.prices if price.meter_id is not None))
