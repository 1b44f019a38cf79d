"""What a customer is entitled to: the fold of subscriptions over what their plans grant."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from domain.money import EXACT
from domain.subscriptions import period_anchor
from schemas.contracts import Entitlement as HeldEntitlement
from schemas.contracts import FeatureKind
from schemas.entitlements import BooleanEntitlement, EntitlementSpec, MeteredEntitlement, StaticEntitlement
from schemas.periods import Cadence
from schemas.plans import PlanCadence
from schemas.subscriptions import Subscription


class GrantedFeature(Struct, frozen=True, kw_only=True):
    """One entitlement of a plan version, with the feature and meter it names."""

    terms: EntitlementSpec
    feature_id: str
    feature_key: str
    kind: FeatureKind
    meter_id: str = ""
    generation: int = 1
    aggregation: str = "sum"


class HeldPlan(Struct, frozen=True, kw_only=True):
    """A subscription with what a version of its plan, or so many units of an add-on, grants while it is held:
    `[starts_at, ends_at)`, the subscription's unless told. Each unit grants the whole limit.
    """

    subscription: Subscription
    cadence: PlanCadence
    features: tuple[GrantedFeature, ...]
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    units: int = 1


def held_entitlements(plans: Iterable[HeldPlan], known_at: datetime) -> list[HeldEntitlement]:
    """Entitlements of all subscriptions that have not ended at `known_at`, in order of feature key and subscription, and
    of one subscription in order of time.
    """
    held = [
        _held(plan, feature)
        for plan in plans
        if plan.subscription.end_at is None or plan.subscription.end_at > known_at
        for feature in plan.features
    ]
    return sorted(held, key=lambda each: (each.feature_key, each.subscription_id, each.starts_at))


def _held(plan: HeldPlan, feature: GrantedFeature) -> HeldEntitlement:
    held = plan.subscription
    common = HeldEntitlement(
        feature_id=feature.feature_id,
        feature_key=feature.feature_key,
        kind=feature.kind,
        subscription_id=held.id,
        starts_at=plan.starts_at or held.start_at,
        ends_at=plan.ends_at or held.end_at,
        counts_from=None if plan.starts_at is None else held.start_at,
        timezone=held.timezone,
    )
    terms = feature.terms
    if isinstance(terms, BooleanEntitlement):
        return replace(common, enabled=terms.enabled)
    if isinstance(terms, StaticEntitlement):
        return replace(common, config=terms.config)
    return _metered(common, plan, feature, terms)


def _metered(
    common: HeldEntitlement, plan: HeldPlan, feature: GrantedFeature, terms: MeteredEntitlement
) -> HeldEntitlement:
    held = plan.subscription
    unit = plan.cadence if terms.usage_period == "billing_period" else terms.usage_period
    anchor = period_anchor(held.trial_end_at or held.start_at, held.billing, Cadence(unit=unit), held.timezone)
    return replace(
        common,
        meter_id=feature.meter_id,
        generation=feature.generation,
        aggregation=feature.aggregation,
        limit=None if terms.limit is None else EXACT.multiply(terms.limit, Decimal(plan.units)),
        soft=terms.soft,
        usage_period=unit,
        anchor_at=anchor,
        thresholds=terms.thresholds,
    )
