"""What comes off a line after its usage is priced: percentage discounts, and what is above its maximum."""

from collections.abc import Sequence
from decimal import Decimal

from domain.money import EXACT, HUNDREDTH, ZERO, round_money
from domain.pricing.steps import adjustment
from domain.quantities import format_quantity
from schemas.price_terms import PercentageDiscount
from schemas.prices import RatedStep


def discount_steps(
    amount: Decimal, discounts: Sequence[PercentageDiscount], currency: str, quantity: Decimal
) -> list[RatedStep]:
    """One after another, each from what the one before left, rounded alone.

    They are taken from the amount in whole minor units, so that usage that grows never makes a line cheaper.
    """
    if not discounts:
        return []
    left = round_money(amount, currency)
    rounding = EXACT.subtract(left, amount)
    steps = [adjustment("rounding", rounding, quantity)]
    for position, discount in enumerate(discounts, 1):
        off = round_money(EXACT.multiply(left, EXACT.multiply(discount.percent, HUNDREDTH)), currency)
        left = EXACT.subtract(left, off)
        label = f"{position}: {discount.name or f'{format_quantity(discount.percent)} %'}"
        steps.append(adjustment("discount", EXACT.minus(off), quantity, label))
    return [step for step in steps if step.amount]


def maximum_steps(amount: Decimal, maximum: Decimal | None, quantity: Decimal) -> list[RatedStep]:
    if maximum is None or amount <= maximum:
        return []
    return [adjustment("maximum", EXACT.subtract(maximum, amount), quantity)]


def floor_steps(amount: Decimal, quantity: Decimal) -> list[RatedStep]:
    """A price never pays out, whatever corrections the usage holds."""
    return [adjustment("floor", EXACT.minus(amount), quantity)] if amount < ZERO else []
