"""Backtests: past billing periods rated twice, under the prices that are held and under others, by what closes periods."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from msgspec.structs import replace

from domain.billing import bill
from domain.closing import due_periods
from domain.errors import Conflict, Invalid, invalid_field
from domain.money import EXACT, total
from domain.periods import billing_period_at
from domain.plan_versions import version_of
from domain.subscriptions.periods import EARLIEST_START
from schemas.backtests import (
    BacktestCustomer,
    BacktestLine,
    BacktestPeriod,
    BacktestRefusal,
    BacktestRequest,
    Difference,
    OtherPrices,
)
from schemas.billing import BilledMeter, Contracts, Counted
from schemas.closing import ClosableSubscription, DuePeriod
from schemas.invoices import Invoice, InvoiceLine
from schemas.periods import FOREVER, Cadence
from schemas.plans import Plan
from schemas.prices import GraduatedPercentagePrice, GraduatedPrice, PlanPrice, VolumePrice

MAX_SPAN = timedelta(days=400)
MAX_CUSTOMERS = 200
MAX_SUBSCRIPTIONS = 500
# Prices to rate, those with tiers by tier: what bounds the time of a backtest and the length of its answer.
MAX_STEPS = 10_000


def check_backtest(asked: BacktestRequest) -> None:
    """Raises Invalid: `time_without_zone`, `range_empty`, `range_out_of_bounds`, `cohort_ambiguous`, `prices_or_plan`,
    `backtest_too_large`.
    """
    if asked.start.tzinfo is None or asked.end.tzinfo is None:
        raise invalid_field("/from", "time_without_zone", "from and to need a zone, such as a final Z")
    if asked.start < EARLIEST_START or asked.end > FOREVER:
        message = f"a backtest lies from {EARLIEST_START:%Y-%m-%d} to before {FOREVER:%Y-%m-%d}"
        raise invalid_field("/from", "range_out_of_bounds", message)
    if asked.start >= asked.end:
        raise invalid_field("/to", "range_empty", "to lies after from")
    if asked.end - asked.start > MAX_SPAN:
        message = f"a backtest covers {MAX_SPAN.days} days at most: ask for a shorter range"
        raise invalid_field("/to", "range_out_of_bounds", message)
    if (asked.customers is None) == (asked.holders_of is None):
        raise invalid_field("/customers", "cohort_ambiguous", "either customers or holders_of says who is compared")
    if (asked.plan is None) == (asked.prices is None) or (asked.prices is None) != (asked.currency is None):
        message = "the other prices are either prices with their currency, or those of a plan"
        raise invalid_field("/prices", "prices_or_plan", message)
    if asked.version is not None and asked.plan is None:
        raise invalid_field("/version", "prices_or_plan", "a version is one of the plan that is named besides")
    check_size(len(asked.customers or ()), MAX_CUSTOMERS, "customers")


def rated_to(asked: BacktestRequest, as_of: datetime) -> datetime:
    """Up to where periods are rated: nothing is known of usage after `as_of`, and what is not known is not zero."""
    return max(asked.start, min(asked.end, as_of)).astimezone(UTC)


def check_size(count: int, most: int, what: str) -> None:
    """Raises Invalid `backtest_too_large`."""
    if count > most:
        message = f"a backtest takes {most:,} {what} at most: ask for fewer customers or a shorter range"
        raise Invalid("backtest_too_large", message)


def periods_ending(held: ClosableSubscription, start: datetime, end: datetime, limit: int) -> list[DuePeriod]:
    """The first `limit` billing periods that end after `start` and not after `end`, in order.

    Raises Invalid `unknown_timezone`.
    """
    first = max(start, held.start_at)
    running = billing_period_at(held.start_at, held.billing, Cadence(unit=held.cadence), held.timezone, first)
    return due_periods(replace(held, closed_to=running.start), end, limit)


def size_of(prices: Iterable[PlanPrice]) -> int:
    """What rating these prices once counts for `MAX_STEPS`."""
    return sum(
        len(price.price.tiers)
        if isinstance(price.price, GraduatedPrice | VolumePrice | GraduatedPercentagePrice)
        else 1
        for price in prices
    )


def check_comparable(present: Plan, other: OtherPrices) -> None:
    """Raises Conflict `currency_mixed` or `cadence_mismatch`: there is no difference between amounts of two currencies, or
    of periods of two lengths.
    """
    if present.currency != other.currency:
        raise Conflict(
            "currency_mixed", f"the plan that is held is in {present.currency}, the others in {other.currency}"
        )
    if other.cadence not in {None, present.cadence}:
        message = f"the plan that is held is billed by the {present.cadence}, the other by the {other.cadence}"
        raise Conflict("cadence_mismatch", message)


def under_other_prices(contracts: Contracts, held: ClosableSubscription, other: OtherPrices) -> Contracts:
    """The same contracts as if the plan of this subscription had had the other prices from its start on."""
    plan = replace(contracts.plans[held.plan_version_id], prices=other.prices)
    plans = {**contracts.plans, held.plan_version_id: plan}
    if held.sold is None:
        return replace(contracts, plans=plans)
    # Whatever plans it held, one after another: pauses and quantities stay as they were.
    phases = version_of(plan).phases
    sold = replace(held.sold, plans={name: replace(one, phases=phases) for name, one in held.sold.plans.items()})
    return replace(contracts, plans=plans, held={**contracts.held, held.id: replace(held, sold=sold)})


def compared(
    contracts: Contracts,
    periods: Sequence[DuePeriod],
    other: OtherPrices,
    usage: Mapping[BilledMeter, Counted],
    cut: int,
) -> tuple[list[BacktestPeriod], list[BacktestRefusal]]:
    """Periods of one subscription, in order, rated twice; up to the first that one of the two sides cannot be rated for."""
    held = contracts.held[periods[0].subscription_id]
    sides = [
        bill(side, periods, usage, cut, _no_id) for side in (contracts, under_other_prices(contracts, held, other))
    ]
    failed = next((side.failed for side in sides if side.failed is not None), None)
    refused = (
        [] if failed is None else [BacktestRefusal(subscription_id=held.id, code=failed.code, message=failed.message)]
    )
    pairs = zip(sides[0].invoices, sides[1].invoices, strict=False)  # as far as both came
    return [_period(held, present, changed) for present, changed in pairs], refused


def _no_id(prefix: str) -> str:
    """Nothing is kept of a backtest: its lines need no ids."""
    return prefix


def _period(held: ClosableSubscription, present: Invoice, other: Invoice) -> BacktestPeriod:
    return BacktestPeriod(
        subscription_id=held.id,
        plan_version_id=held.plan_version_id,
        start=present.period_start,
        end=present.period_end,
        total=_difference(present.total, other.total),
        present_lines=tuple(_line(line) for line in present.lines),
        other_lines=tuple(_line(line) for line in other.lines),
    )


def _line(line: InvoiceLine) -> BacktestLine:
    return BacktestLine(
        kind=line.kind,
        price_key=line.price_key,
        description=line.description,
        meter_id=line.meter_id,
        quantity=line.quantity,
        exact_amount=line.exact_amount,
        amount=line.amount,
        steps=line.steps,
    )


def _difference(present: Decimal, other: Decimal) -> Difference:
    return Difference(present=present, other=other, difference=EXACT.subtract(other, present))


def summed(differences: Iterable[Difference]) -> Difference:
    """The exact sums."""
    found = list(differences)
    return _difference(total([each.present for each in found]), total([each.other for each in found]))


def by_customer(
    contracts: Contracts, periods: Iterable[BacktestPeriod], refused: Iterable[BacktestRefusal]
) -> tuple[BacktestCustomer, ...]:
    """What each customer comes to, in the order of their ids."""
    of: dict[str, tuple[list[BacktestPeriod], list[BacktestRefusal]]] = {}
    for held in sorted(contracts.held.values(), key=lambda one: one.customer_id):
        of.setdefault(held.customer_id, ([], []))
    for period in periods:
        of[contracts.held[period.subscription_id].customer_id][0].append(period)
    for refusal in refused:
        of[contracts.held[refusal.subscription_id].customer_id][1].append(refusal)
    return tuple(
        BacktestCustomer(
            customer_id=customer_id,
            total=summed(period.total for period in found),
            periods=tuple(found),
            refused=tuple(kept),
        )
        for customer_id, (found, kept) in of.items()
    )
