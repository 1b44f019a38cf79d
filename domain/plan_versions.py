"""Versions of plans: a draft is edited, published, archived; what was published never changes."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from msgspec.structs import replace

from domain.errors import Conflict
from domain.plan_phases import STANDARD
from domain.plan_validation import Catalog, validate_plan_version
from domain.rate_cards import card_spec, kept_card, resolved_entitlements
from schemas.addons import AddonVersion
from schemas.features import Feature
from schemas.periods import Cadence
from schemas.plan_phases import Phase, PhaseSpec, PlanVersion, PlanVersionSpec, RateCard
from schemas.plans import Plan


def draft_version(
    spec: PlanVersionSpec,
    *,
    plan_id: str,
    version: int,
    features: Mapping[str, Feature],
    meters: Mapping[str, str],
    new_id: Callable[[str], str],
) -> PlanVersion:
    """The draft of `spec` with ids of its own; references to features and meters become ids where they are known.

    `features` and `meters` (to ids) are by the reference used. `new_id` makes an id of a prefix.
    """
    return PlanVersion(
        id=new_id("plv"),
        plan_id=plan_id,
        plan_key=spec.key,
        name=spec.name,
        family=spec.family,
        level=spec.level,
        version=version,
        status="draft",
        currency=spec.currency,
        cadence=spec.cadence,
        phases=tuple(
            Phase(
                key=phase.key,
                name=phase.name,
                duration=phase.duration,
                trial=phase.trial,
                rate_cards=tuple(
                    kept_card(card, spec.currency, spec.cadence, meters, new_id) for card in phase.rate_cards
                ),
                entitlements=resolved_entitlements(phase.entitlements, features),
            )
            for phase in spec.phases
        ),
    )


def spec_of(version: PlanVersion) -> PlanVersionSpec:
    """What would make this version again, with ids for references."""
    return PlanVersionSpec(
        key=version.plan_key,
        name=version.name,
        family=version.family,
        level=version.level,
        currency=version.currency,
        cadence=version.cadence,
        phases=tuple(
            PhaseSpec(
                key=phase.key,
                name=phase.name,
                duration=phase.duration,
                trial=phase.trial,
                rate_cards=tuple(card_spec(card) for card in phase.rate_cards),
                entitlements=phase.entitlements,
            )
            for phase in version.phases
        ),
    )


def publish(version: PlanVersion, catalog: Catalog, now: datetime) -> PlanVersion:
    """The version, for sale from now on. Raises Conflict `version_not_draft`; Invalid as `validate_plan_version`."""
    check_editable(version)
    validate_plan_version(spec_of(version), catalog)
    return replace(version, status="published", published_at=now)


def check_editable(version: PlanVersion | AddonVersion) -> None:
    """Raises Conflict `version_not_draft`: what was sold never changes; a change is a new version."""
    if version.status != "draft":
        raise Conflict("version_not_draft", f"version {version.version} is {version.status}: make a new version of it")


def archive(version: PlanVersion, now: datetime) -> PlanVersion:
    """Not sold any more; who holds it keeps it. Repeating it changes nothing. Raises Conflict `plan_not_published`."""
    if version.status == "draft":
        raise Conflict("plan_not_published", "a draft is deleted, not archived")
    return version if version.status == "archived" else replace(version, status="archived", archived_at=now)


def clone(
    version: PlanVersion, *, plan_id: str, key: str, name: str, number: int, new_id: Callable[[str], str]
) -> PlanVersion:
    """A draft that says the same under another plan, or as the next version of its own, with prices of its own."""
    spec = replace(spec_of(version), key=key, name=name)
    return draft_version(spec, plan_id=plan_id, version=number, features={}, meters={}, new_id=new_id)


def check_deletable(versions: Iterable[PlanVersion], in_use: Mapping[str, int]) -> None:
    """`in_use` counts the subscriptions, ended ones too, by version id. Raises Conflict `plan_in_use`.

    What an invoice refers to is never erased: such a plan is archived.
    """
    used = sum(in_use.get(version.id, 0) for version in versions)
    if used:
        raise Conflict("plan_in_use", f"{used} subscriptions refer to the plan: archive it instead")


def version_of(plan: Plan) -> PlanVersion:
    """A plan without phases as a version of one phase, billed in arrears at the plan's cadence."""
    cadence = Cadence(unit=plan.cadence)
    phase = Phase(
        key=STANDARD,
        rate_cards=tuple(RateCard(price=price, timing="in_arrears", cadence=cadence) for price in plan.prices),
        entitlements=plan.entitlements,
    )
    return PlanVersion(
        id=plan.version_id,
        plan_id=plan.id,
        plan_key=plan.key,
        name=plan.name,
        version=plan.version,
        status=plan.status,
        currency=plan.currency,
        cadence=cadence,
        phases=(phase,),
        published_at=plan.created_at,
        archived_at=plan.archived_at,
    )
