"""Editing what is not published yet: a draft is a specification with some of its parts replaced."""

from collections.abc import Mapping

from msgspec import UNSET
from msgspec.structs import replace

from domain.errors import Conflict, invalid_field
from domain.plan_phases import STANDARD
from domain.rate_cards import resolved_cards, resolved_entitlements
from schemas.entitlements import EntitlementSpec
from schemas.features import Feature
from schemas.periods import Cadence
from schemas.plan_drafts import PlanVersionPatch
from schemas.plan_phases import PhaseSpec, PlanVersion, PlanVersionSpec, RateCardSpec
from schemas.plans import Plan


def revised(base: PlanVersionSpec, patch: PlanVersionPatch) -> PlanVersionSpec:
    """`base` with what the patch says. A card that has the plan's cadence follows it to another one.

    Raises Invalid `prices_or_phases`: both are sent, or prices for a plan with several phases.
    """
    changed = replace(
        base,
        family=base.family if patch.family is UNSET else patch.family,
        level=base.level if patch.level is UNSET else patch.level,
        cadence=base.cadence if patch.cadence is UNSET else Cadence(unit=patch.cadence),
        phases=tuple(_following(phase, base.cadence) for phase in base.phases),
    )
    if patch.phases is not UNSET:
        changed = replace(changed, phases=patch.phases)
    if patch.prices is UNSET and patch.entitlements is UNSET:
        return changed
    if patch.phases is not UNSET or len(base.phases) > 1:
        message = "a plan with phases is told by `phases`; `prices` and `entitlements` are those of a plan without"
        raise invalid_field("/prices", "prices_or_phases", message)
    phase = changed.phases[0] if changed.phases else PhaseSpec(key=STANDARD)
    if patch.prices is not UNSET:
        phase = replace(phase, rate_cards=tuple(RateCardSpec(price=price) for price in patch.prices))
    if patch.entitlements is not UNSET:
        phase = replace(phase, entitlements=patch.entitlements)
    return replace(changed, phases=(phase,))


def check_open(plan: Plan) -> None:
    """Raises Conflict `plan_archived`: it gets no more versions."""
    if plan.archived_at is not None:
        raise Conflict("plan_archived", f"the plan {plan.key!r} is archived: clone it to sell it again")


def _following(phase: PhaseSpec, cadence: Cadence) -> PhaseSpec:
    cards = (replace(card, cadence=None) if card.cadence == cadence else card for card in phase.rate_cards)
    return replace(phase, rate_cards=tuple(cards))


def cards_of(spec: PlanVersionSpec) -> list[RateCardSpec]:
    """Those of all phases."""
    return [card for phase in spec.phases for card in phase.rate_cards]


def entitlements_of(spec: PlanVersionSpec) -> list[EntitlementSpec]:
    """Those of all phases."""
    return [each for phase in spec.phases for each in phase.entitlements]


def resolved(version: PlanVersion, features: Mapping[str, Feature], meters: Mapping[str, str]) -> PlanVersion:
    """The version with ids in place of the references that its draft could not resolve when it was written."""
    phases = [
        replace(
            phase,
            rate_cards=resolved_cards(phase.rate_cards, meters),
            entitlements=resolved_entitlements(phase.entitlements, features),
        )
        for phase in version.phases
    ]
    return replace(version, phases=tuple(phases))
