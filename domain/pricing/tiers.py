"""Tiers are `(up_to of the one before, up_to]`; the last is open. Zero units bill the first tier's flat price only."""

from collections.abc import Sequence
from decimal import Decimal

from domain.money import EXACT, ZERO
from schemas.prices import RatedStep, Tier

_ONE = Decimal(1)


def graduated_steps(tiers: Sequence[Tier], billable: Decimal, offset: Decimal) -> list[RatedStep]:
    """Each unit by its own tier; a tier's flat price once it is reached. `offset` units came before (free ones)."""
    steps: list[RatedStep] = []
    lower = ZERO
    for index, tier in enumerate(tiers):
        if index and billable <= lower:
            break
        upper = billable if tier.up_to is None else min(tier.up_to, billable)
        steps += _tier_steps(tier, lower, upper, offset)
        lower = upper
        if tier.up_to is None or billable <= tier.up_to:
            break
    return steps


def volume_steps(tiers: Sequence[Tier], billable: Decimal, offset: Decimal) -> list[RatedStep]:
    """All units by the tier that the whole quantity falls into."""
    tier = next(tier for tier in tiers if tier.up_to is None or billable <= tier.up_to)
    return _tier_steps(tier, ZERO, billable, offset)


def _tier_steps(tier: Tier, lower: Decimal, upper: Decimal, offset: Decimal) -> list[RatedStep]:
    units = EXACT.subtract(upper, lower)
    start, end = EXACT.add(offset, lower), EXACT.add(offset, upper)
    steps = []
    if units:
        steps.append(
            RatedStep(
                kind="tier_units",
                from_quantity=start,
                to_quantity=end,
                quantity=units,
                unit_amount=tier.unit_amount,
                amount=EXACT.multiply(units, tier.unit_amount),
            )
        )
    if tier.flat_amount:
        steps.append(
            RatedStep(
                kind="tier_flat",
                from_quantity=start,
                to_quantity=end,
                quantity=_ONE,
                unit_amount=tier.flat_amount,
                amount=tier.flat_amount,
            )
        )
    return steps
