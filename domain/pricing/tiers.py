"""Tiers are `(up_to of the one before, up_to]`; the last is open. Zero units bill the first tier's flat price only."""

from collections.abc import Sequence
from decimal import Decimal

from domain.money import EXACT, ZERO
from domain.pricing.steps import ONE, priced
from schemas.prices import RatedStep, StepKind, Tier


def graduated_steps(
    tiers: Sequence[Tier], billable: Decimal, offset: Decimal, kind: StepKind = "tier_units"
) -> list[RatedStep]:
    """Each unit by its own tier; a tier's flat price once it is reached. `offset` units came before (free ones)."""
    steps: list[RatedStep] = []
    lower = ZERO
    for index, tier in enumerate(tiers):
        if index and billable <= lower:
            break
        upper = billable if tier.up_to is None else min(tier.up_to, billable)
        steps += _tier_steps(tier, index, lower, upper, offset, kind)
        lower = upper
        if tier.up_to is None or billable <= tier.up_to:
            break
    return steps


def volume_steps(tiers: Sequence[Tier], billable: Decimal, offset: Decimal) -> list[RatedStep]:
    """All units by the tier that the whole quantity falls into."""
    index = volume_tier(tiers, billable)
    return _tier_steps(tiers[index], index, ZERO, billable, offset, "tier_units")


def volume_tier(tiers: Sequence[Tier], quantity: Decimal) -> int:
    """The index of the tier that `quantity` falls into."""
    return next(index for index, tier in enumerate(tiers) if tier.up_to is None or quantity <= tier.up_to)


def _tier_steps(
    tier: Tier, index: int, lower: Decimal, upper: Decimal, offset: Decimal, kind: StepKind
) -> list[RatedStep]:
    units = EXACT.subtract(upper, lower)
    start, end = EXACT.add(offset, lower), EXACT.add(offset, upper)
    steps = []
    if units:
        steps.append(priced(kind, units, tier.unit_amount, start=start, end=end, tier=index + 1))
    if tier.flat_amount:
        steps.append(priced("tier_flat", ONE, tier.flat_amount, start=start, end=end, tier=index + 1))
    return steps
