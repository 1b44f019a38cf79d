"""Units weighed by the time they were there: the units choose the tiers, what they weigh is multiplied.

A change is spread over the tiers that the level passes through, each taking its share of the change's weight. A tier
that was reached keeps its flat price, also when the level falls below it again.
"""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from domain.errors import Invalid
from domain.money import EXACT, ZERO, total
from domain.pricing.steps import ONE, priced
from domain.pricing.tiers import volume_tier
from domain.proration import prorated_quantity
from schemas.priced_usage import WeighedChange
from schemas.prices import RatedStep, Tier


def weighed_graduated_steps(tiers: Sequence[Tier], changes: Sequence[WeighedChange]) -> list[RatedStep]:
    """May sum below zero where more went than came. Raises Invalid `usage_unfit`: weight without units."""
    weights = [ZERO for _ in tiers]
    level, highest = ZERO, ZERO
    for change in changes:
        after = EXACT.add(level, change.units)
        for index, weight in _spread(tiers, level, after, change.weighed):
            weights[index] = EXACT.add(weights[index], weight)
        level, highest = after, max(highest, after)
    steps: list[RatedStep] = []
    for index, (tier, weight) in enumerate(zip(tiers, weights, strict=True)):
        if index and not _reached(tiers, index, highest):
            break
        if weight:
            steps.append(priced("tier_units", weight, tier.unit_amount, tier=index + 1))
        if tier.flat_amount:
            steps.append(priced("tier_flat", ONE, tier.flat_amount, tier=index + 1))
    return steps


def weighed_volume_steps(tiers: Sequence[Tier], changes: Sequence[WeighedChange]) -> list[RatedStep]:
    index = volume_tier(tiers, max(total([change.units for change in changes]), ZERO))
    tier, weight = tiers[index], max(total([change.weighed for change in changes]), ZERO)
    steps = [priced("tier_units", weight, tier.unit_amount, tier=index + 1)] if weight else []
    if tier.flat_amount:
        steps.append(priced("tier_flat", ONE, tier.flat_amount, tier=index + 1))
    return steps


def _reached(tiers: Sequence[Tier], index: int, highest: Decimal) -> bool:
    lower = tiers[index - 1].up_to
    return lower is not None and highest > lower


def _spread(tiers: Sequence[Tier], before: Decimal, after: Decimal, weighed: Decimal) -> list[tuple[int, Decimal]]:
    """The change's weight by tier; the last part takes what is left, so that the parts sum to it."""
    low, high = sorted((before, after))
    units = [(index, _overlap(tiers, index, low, high)) for index in range(len(tiers))]
    passed = [(index, count) for index, count in units if count]
    if weighed and not passed:
        raise Invalid("usage_unfit", "a change of no units has no weight")
    parts: list[tuple[int, Decimal]] = []
    left = weighed
    for index, count in passed[:-1]:
        part = prorated_quantity(weighed, Fraction(count) / Fraction(EXACT.subtract(high, low)))
        parts.append((index, part))
        left = EXACT.subtract(left, part)
    return [*parts, *((index, left) for index, _ in passed[-1:])]


def _overlap(tiers: Sequence[Tier], index: int, low: Decimal, high: Decimal) -> Decimal:
    """Units of `(low, high]` in the tier; those below zero are in the first."""
    lower = tiers[index - 1].up_to if index else None
    upper = tiers[index].up_to
    start = low if lower is None else max(low, lower)
    end = high if upper is None else min(high, upper)
    return max(EXACT.subtract(end, start), ZERO)
