"""What a subscription holds at an instant: plan and phase, rate cards with their quantities, add-ons."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TypeVar

from domain.plan_phases import paid_phases, phase_starts, trial_phase
from schemas.plan_phases import Phase, RateCard
from schemas.subscription_life import AddonFrom, HeldCard, Life, PauseSpan, PlanFrom, QuantityFrom, Sold

BEFORE_START = datetime.min.replace(tzinfo=UTC)

_From = TypeVar("_From", PlanFrom, QuantityFrom, AddonFrom)


def plan_at(life: Life, instant: datetime) -> PlanFrom:
    """The plan that holds at `instant`; before any change of it, the one that it was created with."""
    return _latest(life.plans, instant)[-1]


def paid_from(life: Life, plan: PlanFrom) -> datetime | None:
    """Where the billing periods under `plan` are counted from: the end of the trial. None for a draft.

    A plan that begins new billing periods counts them from where it takes effect.
    """
    if life.trial_end_at is None:
        return None
    resets = [each.at for each in life.plans if each.reset_anchor and each.at is not None and _no_later(each, plan)]
    return max(resets[-1], life.trial_end_at) if resets else life.trial_end_at


def _no_later(one: PlanFrom, other: PlanFrom) -> bool:
    return _order(one) <= _order(other)


def _order(each: PlanFrom | QuantityFrom | AddonFrom) -> tuple[datetime, int]:
    return each.at or BEFORE_START, each.by


def in_order(froms: Iterable[_From]) -> tuple[_From, ...]:
    """By when they take effect; at one instant, by when they were made."""
    return tuple(sorted(froms, key=_order))


def _latest(froms: tuple[_From, ...], instant: datetime) -> tuple[_From, ...]:
    return tuple(each for each in froms if each.at is None or each.at <= instant)


def term_changes(life: Life) -> list[tuple[datetime | None, int]]:
    """When plan, quantities and add-ons change (None: with the start), and by which revision."""
    plans = [(each.at, each.by) for each in life.plans]
    quantities = [(each.at, each.by) for each in life.quantities]
    return [*plans, *quantities, *((each.at, each.by) for each in life.addons)]


def phase_clock(life: Life, plan: PlanFrom) -> datetime | None:
    """Where the paid phases of `plan` are counted from: where it took effect, or where the plan before counted from."""
    index = life.plans.index(plan)
    if plan.at is None or not index:
        return life.trial_end_at
    before = phase_clock(life, life.plans[index - 1]) if plan.keep_phase_clock else plan.at
    if before is None or life.trial_end_at is None:
        return None
    return max(before, life.trial_end_at)


def phase_edges(life: Life, sold: Sold) -> list[datetime]:
    """Where phases of the plans begin, whether or not the plan still holds by then."""
    edges: list[datetime] = []
    for plan in life.plans:
        clock = phase_clock(life, plan)
        if clock is not None:
            edges += phase_starts(paid_phases(sold.plans[plan.plan_version_id].phases), clock, life.timezone)
    return edges


def in_trial(life: Life, instant: datetime) -> bool:
    return life.start_at is not None and life.trial_end_at is not None and life.start_at <= instant < life.trial_end_at


def phase_at(life: Life, sold: Sold, instant: datetime) -> Phase:
    """The phase of the plan that holds at `instant`. In a trial, the plan's trial phase, or its first one without it."""
    plan = plan_at(life, instant)
    phases = sold.plans[plan.plan_version_id].phases
    paid = paid_phases(phases)
    if in_trial(life, instant):
        return trial_phase(phases) or paid[0]
    clock = phase_clock(life, plan)
    if clock is None:
        return paid[0]
    begun = [at for at in phase_starts(paid, clock, life.timezone) if at <= instant]
    return paid[max(len(begun) - 1, 0)]


def quantities_at(life: Life, instant: datetime) -> dict[str, QuantityFrom]:
    """The quantities that were set, by the key of their price."""
    return {each.price_key: each for each in _latest(life.quantities, instant)}


def addons_at(life: Life, instant: datetime) -> dict[str, AddonFrom]:
    """The add-ons that are held, by version id."""
    latest = {each.addon_version_id: each for each in _latest(life.addons, instant)}
    return {version_id: each for version_id, each in latest.items() if each.quantity}


def pause_at(life: Life, instant: datetime) -> PauseSpan | None:
    return next(
        (each for each in life.pauses if each.start <= instant and (each.end is None or instant < each.end)), None
    )


def cards_at(life: Life, sold: Sold, instant: datetime) -> tuple[HeldCard, ...]:
    """The rate cards in force: the phase's in its order, then those of add-ons in the order they were taken on."""
    plan, phase, quantities = plan_at(life, instant), phase_at(life, sold, instant), quantities_at(life, instant)
    cards = [
        _held(card, quantities.get(card.price.key), plan.plan_version_id, phase.key, plan.by)
        for card in phase.rate_cards
    ]
    for version_id, addon in addons_at(life, instant).items():
        cards += [
            HeldCard(
                card=card,
                quantity=card.price.quantity,
                times=1 if card.price.meter_id is not None else addon.quantity,
                plan_version_id=plan.plan_version_id,
                phase_key=phase.key,
                addon_version_id=version_id,
                by=(addon.by,),
            )
            for card in sold.addons[version_id].rate_cards
        ]
    return tuple(cards)


def _held(card: RateCard, found: QuantityFrom | None, plan_version_id: str, phase_key: str, by: int) -> HeldCard:
    quantity = None if card.price.meter_id is not None else found
    return HeldCard(
        card=card,
        quantity=card.price.quantity if quantity is None else quantity.quantity,
        times=1,
        plan_version_id=plan_version_id,
        phase_key=phase_key,
        addon_version_id=None,
        by=(by,) if quantity is None else (by, quantity.by),
    )
