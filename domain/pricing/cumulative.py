"""What a period's usage comes to from its start on, as steps: everything of a line but true-ups."""

from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from msgspec.structs import replace

from domain.errors import Invalid
from domain.money import EXACT, ZERO
from domain.pricing.buckets import bucketed_steps
from domain.pricing.commitments import overage_steps, settle_period
from domain.pricing.discounts import discount_steps, floor_steps, maximum_steps
from domain.pricing.models import line_quantity, model_steps
from domain.pricing.steps import ONE, amount_of, scaled
from domain.pricing.units import conversion_step, convert
from schemas.price_terms import QuantityTerms, UnitConversion, UsageTerms
from schemas.priced_usage import PricedUsage, TermProgress, ValueUsage
from schemas.prices import CommitmentUse, MatrixPrice, Price, RatedStep


class Cumulative(NamedTuple):
    quantity: Decimal  # as metered
    steps: list[RatedStep]
    exact: Decimal  # their sum
    charged: Decimal  # the sum before discounts and maximum, which a commitment is measured by
    commitment: CommitmentUse | None
    rate: Decimal  # of the price's unit in the currency


def cumulative(price: Price, usage: PricedUsage, currency: str, part: Fraction, term: TermProgress) -> Cumulative:
    """Raises Invalid `usage_unfit`, `unknown_currency`, `unknown_timezone`."""
    metered = line_quantity(usage)
    rate = ONE if price.pricing_unit is None else price.pricing_unit.rate
    steps, commitment = _charged(price, usage, currency, part, term, rate, metered)
    charged = amount_of(steps)
    reductions = reduction_steps(price, charged, currency, rate, metered)
    exact = EXACT.add(charged, amount_of(reductions)) if reductions else charged
    return Cumulative(metered, steps + reductions, exact, charged, commitment, rate)


def reduction_steps(price: Price, charged: Decimal, currency: str, rate: Decimal, quantity: Decimal) -> list[RatedStep]:
    """What comes off an amount at list price: discounts, then what is above the maximum."""
    if not price.discounts and price.maximum_amount is None:
        return []
    steps = discount_steps(charged, price.discounts, currency, quantity)
    maximum = None if price.maximum_amount is None else EXACT.multiply(price.maximum_amount, rate)
    return steps + maximum_steps(EXACT.add(charged, amount_of(steps)), maximum, quantity)


def _charged(
    price: Price,
    usage: PricedUsage,
    currency: str,
    part: Fraction,
    term: TermProgress,
    rate: Decimal,
    metered: Decimal,
) -> tuple[list[RatedStep], CommitmentUse | None]:
    """The usage at list price in the currency, and what a commitment adds to it."""
    use: CommitmentUse | None = None
    converted = usage
    if isinstance(price, QuantityTerms) and price.bucket is not None:
        steps, use = bucketed_steps(price, price.bucket, usage, rate)
    else:
        converted, conversion = _converted(price, usage)
        steps = conversion + model_steps(price, converted)
    if rate is not ONE:
        steps = scaled(steps, rate)
    if usage.event_amounts is not None or usage.changes is not None:  # what has gone may outweigh what came
        steps += floor_steps(amount_of(steps), metered)
    if isinstance(price, UsageTerms) and price.commitment is not None and price.commitment.per != "window":
        of_quantity = price if isinstance(price, QuantityTerms) else None
        use = settle_period(of_quantity, steps, converted, price.commitment, rate, currency, part, term)
    return (steps if use is None else steps + overage_steps(use, metered)), use


def _converted(price: Price, usage: PricedUsage) -> tuple[PricedUsage, list[RatedStep]]:
    """The usage in priced units, each of its quantities for itself, and the step that says so."""
    if not isinstance(price, (QuantityTerms, MatrixPrice)) or price.conversion is None:
        return usage, []
    if usage.changes is not None:
        raise Invalid("usage_unfit", "units weighed by time are not converted")
    metered = line_quantity(usage)
    converted = _convert(price.conversion, usage)
    return converted, [conversion_step(metered, line_quantity(converted))]


def _convert(conversion: UnitConversion, usage: PricedUsage) -> PricedUsage:
    values = usage.values
    if values is not None:
        values = tuple(
            ValueUsage(values=cell.values, quantity=convert(conversion, max(cell.quantity, ZERO))) for cell in values
        )
    return replace(usage, quantity=convert(conversion, max(usage.quantity, ZERO)), values=values)
