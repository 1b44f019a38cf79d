"""What a client may put into the catalog: each refusal has its code."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from domain.customers import validate_customer
from domain.errors import Invalid
from domain.features import validate_feature
from domain.keys import validate_key
from domain.limits import MAX_EVENT_AGE_S, validate_limits
from domain.plans import check_entitlements, validate_plan
from schemas.catalog import TenantLimits
from schemas.contracts import FeatureKind
from schemas.customers import Customer
from schemas.entitlements import BooleanEntitlement, EntitlementSpec, MeteredEntitlement
from schemas.features import Feature, FeatureSpec
from schemas.plans import PlanSpec
from schemas.prices import PerUnitPrice, PlanPriceSpec

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PRICE = PlanPriceSpec(key="calls", price=PerUnitPrice(unit_amount=Decimal(1)))


def _plan(
    *prices: PlanPriceSpec, entitlements: tuple[EntitlementSpec, ...] = (), currency: str = "USD", key: str = "pro"
) -> PlanSpec:
    return PlanSpec(key=key, currency=currency, prices=prices, entitlements=entitlements)


def _metered(limit: str | None = None, thresholds: tuple[int, ...] = (50, 100)) -> MeteredEntitlement:
    return MeteredEntitlement(feature="ai", limit=None if limit is None else Decimal(limit), thresholds=thresholds)


def _customer(timezone: str = "UTC", external_id: str | None = None, aliases: tuple[str, ...] = ()) -> Customer:
    return Customer(
        id="cus_1",
        external_id=external_id,
        name="",
        aliases=aliases,
        timezone=timezone,
        currency=None,
        attributes={},
        revision=1,
        created_at=NOW,
        archived_at=None,
    )


@pytest.mark.parametrize(
    ("plan", "code"),
    [
        (_plan(key="pla_1"), "key_malformed"),
        (_plan(key="no blanks"), "key_malformed"),
        (_plan(currency="usd"), "unknown_currency"),
        (_plan(PRICE, PRICE), "price_key_repeated"),
        (_plan(PlanPriceSpec(key="a", price=PRICE.price, quantity=Decimal(-5))), "quantity_negative"),
        (_plan(entitlements=(_metered(), _metered())), "feature_repeated"),
        (_plan(entitlements=(_metered("-1"),)), "quantity_negative"),
        (_plan(entitlements=(_metered("NaN"),)), "not_a_number"),
        (_plan(entitlements=(_metered("1e99999"),)), "quantity_out_of_range"),
        (_plan(entitlements=(_metered(thresholds=(80, 50)),)), "thresholds_malformed"),
        (_plan(entitlements=(_metered(thresholds=(0,)),)), "thresholds_malformed"),
    ],
)
def test_a_plan_that_cannot_be_sold_is_refused(plan: PlanSpec, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        validate_plan(plan, "pla")
    assert refused.value.code == code


def test_a_plan_with_prices_and_limits_is_valid() -> None:
    plan = _plan(PRICE, entitlements=(_metered("0"), BooleanEntitlement(feature="sso")))
    validate_plan(plan, "pla")
    assert plan.prices == (PRICE,)


def _feature(kind: FeatureKind) -> Feature:
    return Feature(
        id="fea_1", key="ai", name="", kind=kind, meter_id=None, revision=1, created_at=NOW, archived_at=None
    )


def test_an_entitlement_is_of_its_features_kind() -> None:
    check_entitlements((_metered(),), {"ai": _feature("metered")})
    with pytest.raises(Invalid) as refused:
        check_entitlements((_metered(),), {"ai": _feature("boolean")})
    assert refused.value.code == "entitlement_kind_mismatch"


def test_one_feature_named_by_id_and_by_key_is_granted_twice() -> None:
    by_id = BooleanEntitlement(feature="fea_1")
    by_key = BooleanEntitlement(feature="ai")
    with pytest.raises(Invalid) as refused:
        check_entitlements((by_id, by_key), {"fea_1": _feature("boolean"), "ai": _feature("boolean")})
    assert refused.value.code == "feature_repeated"


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        (FeatureSpec(key="ai", kind="metered"), "meter_missing"),
        (FeatureSpec(key="sso", kind="boolean", meter="tokens"), "meter_unused"),
    ],
)
def test_only_a_metered_feature_has_a_meter(spec: FeatureSpec, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        validate_feature(spec, "fea")
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("customer", "code"),
    [
        (_customer(timezone="Mars/Olympus"), "unknown_timezone"),
        (_customer(external_id="cus_2"), "reference_reserved"),
        (_customer(external_id=" acme"), "reference_malformed"),
        (_customer(external_id="a\x00b"), "reference_malformed"),
        (_customer(external_id="acme", aliases=("acme",)), "reference_repeated"),
        (_customer(aliases=tuple(f"a{number}" for number in range(101))), "too_many_aliases"),
    ],
)
def test_a_customer_that_events_could_not_name_is_refused(customer: Customer, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        validate_customer(customer, "cus")
    assert refused.value.code == code


@pytest.mark.parametrize("age_s", [0, -1, MAX_EVENT_AGE_S + 1])
def test_the_age_of_events_is_bounded(age_s: int) -> None:
    with pytest.raises(Invalid) as refused:
        validate_limits(TenantLimits(max_event_age_s=age_s))
    assert refused.value.code == "limit_out_of_range"


def test_a_key_stands_wherever_an_id_does_and_looks_like_none() -> None:
    validate_key("tokens.v2", "met")
    with pytest.raises(Invalid) as refused:
        validate_key("met_1", "met")
    assert refused.value.code == "key_malformed"
