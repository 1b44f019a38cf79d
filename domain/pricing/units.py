"""What happens to a quantity before it is priced: units are converted, and free ones come off."""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from domain.money import EXACT, ZERO, round_half_away
from domain.pricing.steps import priced
from domain.quantities import FRACTION_DIGITS
from schemas.price_terms import UnitConversion
from schemas.prices import RatedStep


def convert(conversion: UnitConversion, quantity: Decimal) -> Decimal:
    """`quantity` in priced units. Monotone, and 0 stays 0: a split line converts what it ends at, never its own part."""
    if conversion.operation == "multiply":
        exact = Fraction(quantity) * Fraction(conversion.factor)
    else:
        exact = Fraction(quantity) / Fraction(conversion.factor)
    match conversion.rounding:
        case "none":
            return round_half_away(exact, FRACTION_DIGITS)
        case "up":
            return Decimal(-(-exact.numerator // exact.denominator))
        case "down":
            return Decimal(exact.numerator // exact.denominator)
        case "half_up":
            return round_half_away(exact, 0)


def conversion_step(metered: Decimal, converted: Decimal) -> RatedStep:
    return priced("conversion", converted, ZERO, end=metered)


def take_free(free_units: Decimal, quantity: Decimal) -> tuple[list[RatedStep], Decimal]:
    """Free units come off the quantity before it is priced; what is left, with the step that says so."""
    free = min(free_units, quantity)
    if not free:
        return [], quantity
    return [priced("free_units", free, ZERO)], EXACT.subtract(quantity, free)


def take_free_in_order(free_units: Decimal, quantities: Sequence[Decimal]) -> tuple[list[RatedStep], list[Decimal]]:
    """Free units come off the quantities one after another; none of them is below zero."""
    left, billable = free_units, list[Decimal]()
    for quantity in quantities:
        free = min(left, quantity)
        billable.append(EXACT.subtract(quantity, free))
        left = EXACT.subtract(left, free)
    taken = EXACT.subtract(free_units, left)
    return ([priced("free_units", taken, ZERO)] if taken else []), billable
