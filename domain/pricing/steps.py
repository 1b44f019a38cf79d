"""Steps of a rating: made, merged, scaled, taken from each other, and put on a line."""

from collections.abc import Hashable, Iterable, Sequence
from decimal import Decimal

from msgspec.structs import replace

from domain.money import EXACT, ZERO, round_money, total
from schemas.prices import CommitmentUse, LineKind, RatedLine, RatedStep, StepKind

ONE = Decimal(1)

# Steps whose amount is a difference of sums: there is nothing that is multiplied.
ADJUSTMENTS: frozenset[StepKind] = frozenset(
    {
        "floor",
        "overage",
        "rounding",
        "discount",
        "maximum",
        "event_minimum",
        "event_maximum",
        "commitment",
        "minimum",
        "carried",
        "proration",
    }
)


def priced(
    kind: StepKind,
    quantity: Decimal,
    unit_amount: Decimal,
    *,
    start: Decimal = ZERO,
    end: Decimal | None = None,
    tier: int | None = None,
    label: str = "",
) -> RatedStep:
    """`quantity` x `unit_amount`, for the units `(start, end]`; `end` defaults to `start` + `quantity`."""
    return RatedStep(
        kind=kind,
        from_quantity=start,
        to_quantity=EXACT.add(start, quantity) if end is None else end,
        quantity=quantity,
        unit_amount=unit_amount,
        amount=EXACT.multiply(quantity, unit_amount),
        tier=tier,
        label=label,
    )


def adjustment(kind: StepKind, amount: Decimal, quantity: Decimal = ZERO, label: str = "") -> RatedStep:
    """An amount put on a line of `quantity` units, or taken off."""
    return RatedStep(
        kind=kind,
        from_quantity=ZERO,
        to_quantity=quantity,
        quantity=ONE,
        unit_amount=amount,
        amount=amount,
        label=label,
    )


def line_of(
    kind: LineKind,
    steps: Sequence[RatedStep],
    quantity: Decimal,
    currency: str,
    commitment: CommitmentUse | None = None,
) -> RatedLine:
    """The line that these steps make, rounded once. Raises Invalid `unknown_currency`."""
    exact = amount_of(steps)
    return RatedLine(
        kind=kind,
        quantity=quantity,
        currency=currency,
        exact_amount=exact,
        amount=round_money(exact, currency),
        steps=tuple(steps),
        commitment=commitment,
    )


def amount_of(steps: Sequence[RatedStep]) -> Decimal:
    return steps[0].amount if len(steps) == 1 else total([step.amount for step in steps])


def scaled(steps: Sequence[RatedStep], rate: Decimal) -> list[RatedStep]:
    """Amounts of a custom unit in the currency, of which one unit costs `rate`."""
    return [
        replace(step, unit_amount=EXACT.multiply(step.unit_amount, rate), amount=EXACT.multiply(step.amount, rate))
        for step in steps
    ]


def merged(steps: Iterable[RatedStep], quantity: Decimal) -> list[RatedStep]:
    """Steps of many buckets as one for each price that was applied; all of them cover `quantity` together."""
    sums: dict[Hashable, RatedStep] = {}
    for step in steps:
        key = _key(step)
        sums[key] = _sum(sums[key], step) if key in sums else step
    return [replace(step, from_quantity=ZERO, to_quantity=quantity) for step in sums.values()]


def difference(after: Sequence[RatedStep], before: Sequence[RatedStep]) -> list[RatedStep]:
    """What `after` has on top of `before`, both from the start of the period: their amounts differ by its amount.

    A step of the same price goes on where it stood; one that is no longer there (another volume tier) is reversed.
    """
    earlier = {_key(step): step for step in before}
    steps = [_on_top(step, earlier.pop(_key(step), None)) for step in after]
    reversed_steps = [
        replace(step, quantity=EXACT.minus(step.quantity), amount=EXACT.minus(step.amount)) for step in earlier.values()
    ]
    return [step for step in steps + reversed_steps if step.quantity or step.amount]


def _key(step: RatedStep) -> Hashable:
    if step.kind in ADJUSTMENTS:
        return step.kind, step.label
    return step.kind, step.label, step.tier, step.unit_amount


def _sum(one: RatedStep, other: RatedStep) -> RatedStep:
    amount = EXACT.add(one.amount, other.amount)
    if one.kind in ADJUSTMENTS:
        return replace(one, unit_amount=amount, amount=amount)
    return replace(one, quantity=EXACT.add(one.quantity, other.quantity), amount=amount)


def _on_top(step: RatedStep, earlier: RatedStep | None) -> RatedStep:
    if earlier is None:
        return step
    amount = EXACT.subtract(step.amount, earlier.amount)
    bounds = sorted((earlier.to_quantity, step.to_quantity))
    if step.kind in ADJUSTMENTS:
        quantity, unit_amount = (ONE if amount else ZERO), amount
    else:
        quantity, unit_amount = EXACT.subtract(step.quantity, earlier.quantity), step.unit_amount
    return replace(
        step,
        from_quantity=bounds[0],
        to_quantity=bounds[1],
        quantity=quantity,
        unit_amount=unit_amount,
        amount=amount,
    )
