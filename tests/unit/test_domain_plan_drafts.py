"""Drafts of plan versions: what an edit changes, what references become, and what closings cannot bill."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from msgspec.structs import replace

from domain.errors import Conflict, Invalid
from domain.plan_billable import check_version_billable
from domain.plan_drafts import resolved, revised
from domain.plan_versions import draft_version
from domain.plans import check_sold
from schemas.entitlements import BooleanEntitlement
from schemas.features import Feature
from schemas.periods import Cadence
from schemas.plan_drafts import PlanVersionPatch
from schemas.plan_phases import PhaseSpec, PlanVersionSpec, RateCardSpec
from schemas.plans import Plan
from schemas.prices import FlatPrice, MatrixPrice, PerUnitPrice, PlanPriceSpec

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MONTH, YEAR = Cadence(unit="month"), Cadence(unit="year")
FEE = PlanPriceSpec(key="fee", price=FlatPrice(amount=Decimal(9)))
CALLS = PlanPriceSpec(key="calls", meter="calls", price=PerUnitPrice(unit_amount=Decimal("0.01")))
SSO = BooleanEntitlement(feature="sso")
MONTHLY, YEARLY = RateCardSpec(price=CALLS, cadence=MONTH), RateCardSpec(price=FEE, cadence=YEAR)
PHASE = PhaseSpec(key="all", rate_cards=(MONTHLY, YEARLY), entitlements=(SSO,))
BASE = PlanVersionSpec(key="pro", family="main", level=1, currency="USD", cadence=MONTH, phases=(PHASE,))
RAMP = PhaseSpec(key="ramp", duration=MONTH)


def test_an_empty_patch_changes_nothing_but_says_the_cadence_of_the_plan_once() -> None:
    same = revised(BASE, PlanVersionPatch())
    assert replace(same, phases=()) == replace(BASE, phases=())
    assert [card.cadence for card in same.phases[0].rate_cards] == [None, YEAR]


def test_a_card_at_the_plans_cadence_follows_it_and_another_stays() -> None:
    changed = revised(BASE, PlanVersionPatch(cadence="quarter"))
    draft = draft_version(changed, plan_id="pla_1", version=2, features={}, meters={}, new_id=lambda prefix: prefix)
    assert [card.cadence.unit for card in draft.phases[0].rate_cards] == ["quarter", "year"]


def test_prices_and_entitlements_are_replaced_one_without_the_other() -> None:
    priced = revised(BASE, PlanVersionPatch(prices=(FEE,), family=None)).phases
    assert priced == (replace(PHASE, rate_cards=(RateCardSpec(price=FEE),)),)
    granted = revised(BASE, PlanVersionPatch(entitlements=())).phases
    assert (granted[0].entitlements, len(granted[0].rate_cards)) == ((), 2)
    assert revised(replace(BASE, phases=()), PlanVersionPatch(prices=(FEE,))).phases[0].rate_cards[0].price == FEE
    assert revised(BASE, PlanVersionPatch(family=None)).family is None


@pytest.mark.parametrize(
    ("base", "patch"),
    [
        (BASE, PlanVersionPatch(prices=(), phases=())),
        (BASE, PlanVersionPatch(entitlements=(), phases=(PHASE,))),
        (replace(BASE, phases=(RAMP, PHASE)), PlanVersionPatch(prices=(FEE,))),
    ],
)
def test_prices_of_a_plan_with_phases_say_nothing(base: PlanVersionSpec, patch: PlanVersionPatch) -> None:
    with pytest.raises(Invalid) as refused:
        revised(base, patch)
    assert refused.value.code == "prices_or_phases"


def test_what_a_draft_could_not_resolve_is_resolved_when_it_is_there() -> None:
    draft = draft_version(BASE, plan_id="pla_1", version=2, features={}, meters={}, new_id=lambda prefix: prefix)
    sso = Feature(
        id="fea_1", key="sso", name="", kind="boolean", meter_id=None, revision=1, created_at=NOW, archived_at=None
    )
    (phase,) = resolved(draft, {"sso": sso}, {"calls": "met_1"}).phases
    assert [card.price.meter_id for card in phase.rate_cards] == ["met_1", None]
    assert phase.entitlements[0].feature == "fea_1"
    assert resolved(draft, {}, {}) == draft


def _not_billable(*phases: PhaseSpec) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as refused:
        check_version_billable(replace(BASE, phases=phases))
    return [(each.code, each.pointer) for each in refused.value.details]


def test_closings_bill_phases_in_arrears_at_the_plans_cadence() -> None:
    check_version_billable(replace(BASE, phases=(RAMP, PhaseSpec(key="all", rate_cards=(MONTHLY,)))))
    in_advance = PhaseSpec(key="all", rate_cards=(RateCardSpec(price=FEE, timing="in_advance"), YEARLY))
    assert _not_billable(RAMP, in_advance) == [
        ("price_not_billable", "/phases/1/rate_cards/0/timing"),
        ("price_not_billable", "/phases/1/rate_cards/1/cadence"),
    ]
    matrix = MatrixPrice(dimensions=("model",), cells=(), default_unit_amount=Decimal(1))
    by_model = RateCardSpec(price=replace(CALLS, price=matrix))
    assert _not_billable(PhaseSpec(key="all", rate_cards=(by_model,))) == [
        ("price_not_billable", "/phases/0/rate_cards/0/price/price")
    ]


def test_only_what_is_published_and_not_archived_is_sold() -> None:
    plan = Plan(
        id="pla_1",
        key="pro",
        name="",
        currency="USD",
        version=1,
        version_id="plv_1",
        status="published",
        cadence="month",
        prices=(),
        entitlements=(),
        revision=1,
        created_at=NOW,
        archived_at=None,
    )
    check_sold(plan)
    refusals = [replace(plan, status="draft"), replace(plan, status="archived"), replace(plan, archived_at=NOW)]
    codes = []
    for refused in refusals:
        with pytest.raises(Conflict) as conflict:
            check_sold(refused)
        codes.append(conflict.value.code)
    assert codes == ["plan_not_published", "plan_archived", "plan_archived"]
