"""What each model makes of the usage, before anything else of the price applies."""

from collections.abc import Sequence
from decimal import Decimal
from typing import assert_never

from domain.errors import Invalid
from domain.money import EXACT, ZERO, total
from domain.pricing.matrix import matrix_steps
from domain.pricing.percentage import graduated_percentage_steps, percentage_steps
from domain.pricing.steps import ONE, priced
from domain.pricing.tiers import graduated_steps, volume_steps
from domain.pricing.units import take_free
from domain.pricing.weighed import weighed_graduated_steps, weighed_volume_steps
from schemas.priced_usage import PricedUsage, WeighedChange
from schemas.prices import (
    DynamicPrice,
    FlatPrice,
    GraduatedPercentagePrice,
    GraduatedPrice,
    MatrixPrice,
    PackagePrice,
    PercentagePrice,
    PerUnitPrice,
    Price,
    RatedStep,
    Tier,
    VolumePrice,
)

# Models that price one quantity, and so can be priced per bucket and at a committed quantity.
QuantityPrice = PerUnitPrice | PackagePrice | GraduatedPrice | VolumePrice


def model_steps(price: Price, usage: PricedUsage) -> list[RatedStep]:
    """The usage at list price. Raises Invalid `usage_unfit` where the model needs usage of another shape."""
    match price:
        case PerUnitPrice() | PackagePrice() | GraduatedPrice() | VolumePrice():
            steps = _quantity_model_steps(price, usage)
        case FlatPrice():
            steps = [priced("flat", ONE, price.amount, end=max(usage.quantity, ZERO))]
        case PercentagePrice():
            steps = percentage_steps(price, usage)
        case GraduatedPercentagePrice():
            steps = graduated_percentage_steps(price, max(usage.quantity, ZERO))
        case DynamicPrice():
            steps = [priced("multiplied", max(usage.quantity, ZERO), price.multiplier)]
        case MatrixPrice():
            steps = matrix_steps(price, usage)
        case _:
            assert_never(price)
    return steps


def quantity_steps(price: QuantityPrice, billable: Decimal, offset: Decimal = ZERO) -> list[RatedStep]:
    """`billable` units, after `offset` free ones."""
    match price:
        case PerUnitPrice():
            return [priced("units", billable, price.unit_amount, start=offset)]
        case PackagePrice():
            packages = EXACT.divide_int(billable, price.package_size)
            if price.rounding == "up" and EXACT.remainder(billable, price.package_size):
                packages = EXACT.add(packages, ONE)
            return [priced("packages", packages, price.amount, start=offset, end=EXACT.add(offset, billable))]
        case GraduatedPrice():
            return graduated_steps(price.tiers, billable, offset)
        case VolumePrice():
            return volume_steps(price.tiers, billable, offset)


def line_quantity(usage: PricedUsage) -> Decimal:
    """The whole quantity, whatever shape the usage has."""
    if usage.buckets is not None:
        return total([bucket.quantity for bucket in usage.buckets])
    if usage.values is not None:
        return total([cell.quantity for cell in usage.values])
    if usage.event_amounts is not None:
        return total(usage.event_amounts)
    if usage.changes is not None:
        return total([change.weighed for change in usage.changes])
    return usage.quantity


def _quantity_model_steps(price: QuantityPrice, usage: PricedUsage) -> list[RatedStep]:
    if usage.changes is not None:
        return _weighed_steps(price, usage.changes)
    quantity = max(usage.quantity, ZERO)
    free, billable = take_free(price.free_units, quantity)
    return free + quantity_steps(price, billable, EXACT.subtract(quantity, billable))


def _weighed_steps(price: QuantityPrice, changes: Sequence[WeighedChange]) -> list[RatedStep]:
    if price.free_units or price.conversion:
        raise Invalid("usage_unfit", "units weighed by time are priced without free units and conversion")
    match price:
        case PerUnitPrice():
            return weighed_graduated_steps([Tier(unit_amount=price.unit_amount)], changes)
        case GraduatedPrice():
            return weighed_graduated_steps(price.tiers, changes)
        case VolumePrice():
            return weighed_volume_steps(price.tiers, changes)
        case PackagePrice():
            raise Invalid("usage_unfit", "a package is not weighed by time")
