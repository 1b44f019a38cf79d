"""A price per unit for each value of one dimension, or each pair of values of two."""

from collections.abc import Mapping
from decimal import Decimal

from domain.errors import Invalid
from domain.money import ZERO
from domain.pricing.steps import priced
from domain.pricing.units import take_free_in_order
from schemas.priced_usage import PricedUsage
from schemas.prices import MatrixPrice, RatedStep


def matrix_steps(price: MatrixPrice, usage: PricedUsage) -> list[RatedStep]:
    """One step for each cell that was used, in the order of the price; then the other values in theirs, at the default.

    Raises Invalid `usage_unfit` where the usage is not given by the dimensions.
    """
    used = _used(price, usage)
    unit_amounts = {cell.values: cell.unit_amount for cell in price.cells}
    listed = [values for values in unit_amounts if values in used]
    ordered = listed + sorted(values for values in used if values not in unit_amounts)
    steps, billable = take_free_in_order(price.free_units, [used[values] for values in ordered])
    reached = steps[0].to_quantity if steps else ZERO
    for values, quantity in zip(ordered, billable, strict=True):
        if quantity:
            label = ", ".join(f"{name}={value}" for name, value in zip(price.dimensions, values, strict=True))
            unit_amount = unit_amounts.get(values, price.default_unit_amount)
            steps.append(priced("units", quantity, unit_amount, start=reached, label=label))
            reached = steps[-1].to_quantity
    return steps


def _used(price: MatrixPrice, usage: PricedUsage) -> Mapping[tuple[str, ...], Decimal]:
    """Quantity by values; below zero is taken as zero, as on a line of its own."""
    if usage.values is None:
        raise Invalid("usage_unfit", "a matrix price needs the usage by its dimensions")
    used: dict[tuple[str, ...], Decimal] = {}
    for cell in usage.values:
        if len(cell.values) != len(price.dimensions):
            raise Invalid("usage_unfit", f"usage by {len(price.dimensions)} dimensions is needed")
        if cell.values in used:
            raise Invalid("usage_unfit", "values of a matrix stand there twice")
        used[cell.values] = cell.quantity
    return {values: quantity for values, quantity in used.items() if quantity > 0}
