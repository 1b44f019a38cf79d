"""A quantity and a price make an amount, with every step that leads to it (semantics, prices)."""

from decimal import Decimal
from typing import assert_never

from domain.money import EXACT, ZERO, round_money, total
from domain.pricing.tiers import graduated_steps, volume_steps
from schemas.prices import (
    FlatPrice,
    GraduatedPrice,
    PackagePrice,
    PerUnitPrice,
    Price,
    RatedLine,
    RatedStep,
    VolumePrice,
)

_ONE = Decimal(1)


def rate(price: Price, quantity: Decimal, currency: str) -> RatedLine:
    """Price `quantity` units; the steps' amounts sum to `exact_amount`, and `amount` is that sum rounded once.

    A quantity below zero (corrections beyond the usage) is priced as zero units: a price never pays out.
    Raises Invalid `unknown_currency`. The price is valid (`validate_price`).
    """
    steps = _steps(price, max(quantity, ZERO))
    exact = total([step.amount for step in steps])
    return RatedLine(
        quantity=quantity,
        currency=currency,
        exact_amount=exact,
        amount=round_money(exact, currency),
        steps=tuple(steps),
    )


def _steps(price: Price, quantity: Decimal) -> list[RatedStep]:
    match price:
        case FlatPrice():
            return [
                RatedStep(
                    kind="flat",
                    from_quantity=ZERO,
                    to_quantity=quantity,
                    quantity=_ONE,
                    unit_amount=price.amount,
                    amount=price.amount,
                )
            ]
        case PerUnitPrice():
            free, billable = _free(price.free_units, quantity)
            return free + _per_unit(price, quantity, billable)
        case PackagePrice():
            free, billable = _free(price.free_units, quantity)
            return free + _packages(price, quantity, billable)
        case GraduatedPrice():
            free, billable = _free(price.free_units, quantity)
            return free + graduated_steps(price.tiers, billable, EXACT.subtract(quantity, billable))
        case VolumePrice():
            free, billable = _free(price.free_units, quantity)
            return free + volume_steps(price.tiers, billable, EXACT.subtract(quantity, billable))
        case _:
            assert_never(price)


def _free(free_units: Decimal, quantity: Decimal) -> tuple[list[RatedStep], Decimal]:
    """Free units come off the quantity before it is priced (order on a line: semantics, prices)."""
    free = min(free_units, quantity)
    if not free:
        return [], quantity
    step = RatedStep(
        kind="free_units", from_quantity=ZERO, to_quantity=free, quantity=free, unit_amount=ZERO, amount=ZERO
    )
    return [step], EXACT.subtract(quantity, free)


def _per_unit(price: PerUnitPrice, quantity: Decimal, billable: Decimal) -> list[RatedStep]:
    return [
        RatedStep(
            kind="units",
            from_quantity=EXACT.subtract(quantity, billable),
            to_quantity=quantity,
            quantity=billable,
            unit_amount=price.unit_amount,
            amount=EXACT.multiply(billable, price.unit_amount),
        )
    ]


def _packages(price: PackagePrice, quantity: Decimal, billable: Decimal) -> list[RatedStep]:
    packages = EXACT.divide_int(billable, price.package_size)
    if price.rounding == "up" and EXACT.remainder(billable, price.package_size):
        packages = EXACT.add(packages, _ONE)
    return [
        RatedStep(
            kind="packages",
            from_quantity=EXACT.subtract(quantity, billable),
            to_quantity=quantity,
            quantity=packages,
            unit_amount=price.amount,
            amount=EXACT.multiply(packages, price.amount),
        )
    ]
