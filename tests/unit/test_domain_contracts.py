from datetime import UTC, datetime
from decimal import Decimal

from msgspec.structs import replace

from domain.contracts import GrantedFeature, HeldPlan, held_entitlements
from domain.counters import counted_period
from schemas.contracts import FeatureKind
from schemas.entitlements import BooleanEntitlement, MeteredEntitlement, StaticEntitlement
from schemas.subscriptions import Subscription

START = datetime(2026, 1, 15, tzinfo=UTC)
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def _subscription(subscription_id: str = "sub_1", end_at: datetime | None = None) -> Subscription:
    return Subscription(
        id=subscription_id,
        customer_id="cus_1",
        plan_id="pla_1",
        plan_version_id="plv_1",
        status="active",
        billing="anniversary",
        timezone="Europe/Berlin",
        start_at=START,
        end_at=end_at,
        closed_to=START,
        next_close_at=None,
        revision=1,
        created_at=START,
    )


def _feature(key: str, terms: MeteredEntitlement | BooleanEntitlement | StaticEntitlement) -> GrantedFeature:
    kinds: dict[type, FeatureKind] = {
        MeteredEntitlement: "metered",
        BooleanEntitlement: "boolean",
        StaticEntitlement: "static",
    }
    return GrantedFeature(
        terms=terms, feature_id=f"fea_{key}", feature_key=key, kind=kinds[type(terms)], meter_id="met_1"
    )


def test_each_kind_of_entitlement_carries_its_own_terms() -> None:
    features = (
        _feature("tokens", MeteredEntitlement(feature="tokens", limit=Decimal(100), soft=True, usage_period="day")),
        _feature("sso", BooleanEntitlement(feature="sso", enabled=False)),
        _feature("region", StaticEntitlement(feature="region", config="eu")),
    )
    region, sso, tokens = held_entitlements(
        [HeldPlan(subscription=_subscription(), cadence="month", features=features)], NOW
    )
    assert (region.config, sso.enabled) == ("eu", False)
    assert (tokens.limit, tokens.soft, tokens.usage_period, tokens.anchor_at) == (Decimal(100), True, "day", START)
    assert tokens.timezone == "Europe/Berlin"


def test_a_billing_period_limit_counts_per_period_of_the_plan() -> None:
    terms = MeteredEntitlement(feature="tokens", usage_period="billing_period")
    plan = HeldPlan(subscription=_subscription(), cadence="quarter", features=(_feature("tokens", terms),))
    assert held_entitlements([plan], NOW)[0].usage_period == "quarter"


def test_a_subscription_that_has_ended_grants_nothing() -> None:
    features = (_feature("sso", BooleanEntitlement(feature="sso")),)
    ended = HeldPlan(subscription=_subscription(end_at=NOW), cadence="month", features=features)
    running = HeldPlan(subscription=_subscription("sub_2"), cadence="month", features=features)
    assert [each.subscription_id for each in held_entitlements([ended, running], NOW)] == ["sub_2"]


def test_a_plan_that_was_changed_to_goes_on_counting_in_the_periods_of_its_subscription() -> None:
    terms = MeteredEntitlement(feature="tokens", usage_period="month")
    features = (_feature("tokens", terms),)
    changed_at, ends_at = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)
    plan = HeldPlan(
        subscription=_subscription(), cadence="month", features=features, starts_at=changed_at, ends_at=ends_at
    )
    [held] = held_entitlements([plan], NOW)
    assert (held.starts_at, held.ends_at, held.anchor_at) == (changed_at, ends_at, START)
    period = counted_period(held, changed_at)
    assert (period.start, period.end) == (START, datetime(2026, 2, 15, 0, tzinfo=UTC))


def test_what_never_resets_counts_from_the_start_of_the_subscription_across_a_change() -> None:
    features = (_feature("tokens", MeteredEntitlement(feature="tokens", usage_period="never")),)
    whole = HeldPlan(subscription=_subscription(), cadence="month", features=features)
    changed = replace(whole, starts_at=datetime(2026, 2, 1, tzinfo=UTC))
    [before], [after] = held_entitlements([whole], NOW), held_entitlements([changed], NOW)
    assert counted_period(before, NOW) == counted_period(after, NOW)
