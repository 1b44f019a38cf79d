"""Plans: what is published, cloned, archived and deleted, which cadences fit, and how many are moved at once."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from msgspec.structs import replace

from domain.addons import check_addon_fits, check_addon_quantity
from domain.errors import Invalid, MeterstreamError
from domain.plan_cadences import cadences_fit
from domain.plan_families import move_between, offers
from domain.plan_migration import plan_migration, rollback_request
from domain.plan_phases import later, phase_starts
from domain.plan_validation import Catalog, validate_addon, validate_plan_version
from domain.plan_versions import archive, check_deletable, clone, draft_version, publish, spec_of, version_of
from domain.subscriptions.at import subscription_at
from domain.subscriptions.history import record_change
from schemas.addons import AddonSpec
from schemas.entitlements import BooleanEntitlement
from schemas.features import Feature
from schemas.periods import Cadence, CadenceUnit
from schemas.plan_migration import Candidate, PlanMigration
from schemas.plan_phases import Phase, PhaseSpec, PlanVersion, PlanVersionSpec, RateCardSpec
from schemas.plans import Plan
from schemas.prices import FlatPrice, GraduatedPrice, PerUnitPrice, PlanPriceSpec, Tier
from schemas.subscription_changes import Cancel, ChangePlan
from schemas.subscription_life import Sold
from tests.support.lives import BASIC, MONTH, PRO, YEAR, Story, addon, at, begun, fee, plan

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FEATURE = Feature(
    id="fea_1", key="sso", name="", kind="boolean", meter_id=None, revision=1, created_at=NOW, archived_at=None
)
CATALOG = Catalog(features={"sso": FEATURE, "fea_1": FEATURE}, meters={"calls", "met_1"})
SEATS = RateCardSpec(price=PlanPriceSpec(key="seats", price=PerUnitPrice(unit_amount=Decimal(5))), timing="in_advance")
CALLS = RateCardSpec(price=PlanPriceSpec(key="calls", meter="calls", price=PerUnitPrice(unit_amount=Decimal("0.01"))))
TRIAL = PhaseSpec(key="trial", duration=Cadence(unit="day", count=14), trial=True)
STANDARD = PhaseSpec(key="standard", rate_cards=(SEATS, CALLS), entitlements=(BooleanEntitlement(feature="sso"),))
GOOD = PlanVersionSpec(key="pro", family="main", currency="USD", phases=(TRIAL, STANDARD))


def _ids() -> Callable[[str], str]:
    counts: dict[str, int] = {}

    def new_id(prefix: str) -> str:
        counts[prefix] = counts.get(prefix, 0) + 1
        return f"{prefix}_{counts[prefix]}"

    return new_id


def _draft() -> PlanVersion:
    features, meters = {"sso": FEATURE}, {"calls": "met_1"}
    return draft_version(GOOD, plan_id="pla_1", version=1, features=features, meters=meters, new_id=_ids())


def _code(act: Callable[[], object]) -> str:
    with pytest.raises(MeterstreamError) as refused:
        act()
    return refused.value.code


def _phases(*phases: PhaseSpec) -> PlanVersionSpec:
    return replace(GOOD, phases=phases)


def _cards(*cards: RateCardSpec) -> PlanVersionSpec:
    return _phases(PhaseSpec(key="standard", rate_cards=cards))


def test_a_draft_is_published_once_and_does_not_change_any_more() -> None:
    published = publish(_draft(), CATALOG, NOW)
    assert (published.status, published.published_at) == ("published", NOW)
    assert published.phases[1].rate_cards[1].price.meter_id == "met_1"
    assert published.phases[1].rate_cards[0].cadence == MONTH
    assert published.phases[1].entitlements[0].feature == "fea_1"
    assert _code(lambda: publish(published, CATALOG, NOW)) == "version_not_draft"


def test_only_what_was_published_is_archived() -> None:
    assert _code(lambda: archive(_draft(), NOW)) == "plan_not_published"
    archived = archive(publish(_draft(), CATALOG, NOW), NOW)
    assert archive(archived, at(5, 1)) == archived


def test_a_clone_says_the_same_with_prices_of_its_own() -> None:
    published = publish(_draft(), CATALOG, NOW)
    new_id = _ids()
    new_id("pri")
    new_id("pri")
    copy = clone(published, plan_id="pla_2", key="pro-2", name="Pro 2", number=1, new_id=new_id)
    assert (copy.status, copy.plan_key) == ("draft", "pro-2")
    assert spec_of(copy) == replace(spec_of(published), key="pro-2", name="Pro 2")
    ids = [card.price.id for version in (published, copy) for card in version.phases[1].rate_cards]
    assert len(set(ids)) == 4


def test_a_plan_that_subscriptions_refer_to_is_not_deleted() -> None:
    check_deletable([BASIC, PRO], {"other": 3})
    assert _code(lambda: check_deletable([BASIC, PRO], {"pro": 1})) == "plan_in_use"


@pytest.mark.parametrize(
    ("spec", "code", "pointer"),
    [
        (replace(GOOD, key="pla_1"), "key_malformed", "/key"),
        (replace(GOOD, currency="usd"), "unknown_currency", "/currency"),
        (replace(GOOD, cadence=Cadence(unit="never")), "cadence_mismatch", "/cadence"),
        (replace(GOOD, cadence=Cadence(unit="month", count=0)), "cadence_out_of_range", "/cadence"),
        (_phases(), "phases_missing", "/phases"),
        (_phases(TRIAL), "phases_missing", "/phases"),
        (_phases(STANDARD, STANDARD), "phase_key_repeated", "/phases"),
        (_phases(STANDARD, replace(STANDARD, key="b")), "phases_overlap", "/phases/0/duration"),
        (_phases(replace(STANDARD, duration=MONTH)), "phases_gap", "/phases/0/duration"),
        (
            _phases(replace(STANDARD, duration=MONTH), replace(TRIAL, duration=None)),
            "trial_not_first",
            "/phases/1/trial",
        ),
        (_cards(SEATS, SEATS), "price_key_repeated", "/phases/0/rate_cards"),
        (_cards(replace(CALLS, timing="in_advance")), "usage_in_advance", "/phases/0/rate_cards/0/timing"),
        (_cards(replace(SEATS, cadence=Cadence(unit="week"))), "cadence_mismatch", "/phases/0/rate_cards/0/cadence"),
        (
            _cards(replace(SEATS, cadence=Cadence(unit="month", count=0))),
            "cadence_out_of_range",
            "/phases/0/rate_cards/0/cadence",
        ),
        (
            replace(_cards(replace(SEATS, cadence=MONTH)), cadence=Cadence(unit="month", count=0)),
            "cadence_out_of_range",
            "/cadence",
        ),
        (
            _cards(replace(CALLS, price=replace(CALLS.price, meter="none"))),
            "meter_unknown",
            "/phases/0/rate_cards/0/price/meter",
        ),
        (
            _cards(replace(SEATS, price=replace(SEATS.price, price=GraduatedPrice(tiers=(Tier(up_to=Decimal(5)),))))),
            "tiers_gap",
            "/phases/0/rate_cards/0/price/price/tiers/0/up_to",
        ),
        (
            _cards(replace(SEATS, price=replace(SEATS.price, price=FlatPrice(amount=Decimal(-1))))),
            "negative_amount",
            "/phases/0/rate_cards/0/price/price/amount",
        ),
        (
            _phases(replace(STANDARD, entitlements=(BooleanEntitlement(feature="none"),))),
            "feature_unknown",
            "/phases/0/entitlements/0/feature",
        ),
    ],
)
def test_what_cannot_be_sold_is_not_published(spec: PlanVersionSpec, code: str, pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        validate_plan_version(spec, CATALOG)
    assert (code, pointer) in [(each.code, each.pointer) for each in refused.value.details]


def test_every_wrong_field_is_told_at_once() -> None:
    with pytest.raises(Invalid) as refused:
        validate_plan_version(replace(GOOD, key="", currency="", phases=()), CATALOG)
    assert [each.code for each in refused.value.details] == ["key_malformed", "unknown_currency", "phases_missing"]


@pytest.mark.parametrize(
    ("one", "other", "fits"),
    [
        (("month", 1), ("year", 1), True),
        (("quarter", 1), ("half_year", 1), True),
        (("month", 2), ("quarter", 1), False),
        (("week", 1), ("month", 1), False),
        (("day", 1), ("month", 1), True),
        (("day", 2), ("month", 1), False),
        (("day", 1), ("week", 1), True),
        (("hour", 1), ("day", 1), False),
        (("minute", 30), ("hour", 1), True),
    ],
)
def test_cadences_fit_where_the_periods_of_one_lie_whole_in_those_of_the_other(
    one: tuple[CadenceUnit, int], other: tuple[CadenceUnit, int], fits: bool
) -> None:
    first, second = (Cadence(unit=unit, count=count) for unit, count in (one, other))
    assert (cadences_fit(first, second), cadences_fit(second, first)) == (fits, fits)


def test_phases_come_back_to_the_31st() -> None:
    phases = [Phase(key=str(number), duration=MONTH) for number in range(3)]
    assert phase_starts(phases, at(1, 31), "UTC") == [at(1, 31), at(2, 28), at(3, 31)]
    assert later(at(1, 31), [MONTH, Cadence(unit="week"), Cadence(unit="hour")], "UTC") == at(3, 7, 1)


def test_an_add_on_says_what_it_needs() -> None:
    good = AddonSpec(key="storage", currency="USD", rate_cards=(replace(SEATS, cadence=MONTH),))
    validate_addon(good, CATALOG)
    assert _code(lambda: validate_addon(replace(good, rate_cards=()), CATALOG)) == "rate_cards_missing"
    assert _code(lambda: validate_addon(replace(good, rate_cards=(SEATS,)), CATALOG)) == "cadence_missing"
    assert _code(lambda: validate_addon(replace(good, max_quantity=0), CATALOG)) == "addon_quantity_out_of_range"


def test_an_add_on_goes_with_plans_of_its_currency_whose_periods_it_does_not_cross() -> None:
    check_addon_fits(addon("extra", fee("extra", "1", cadence=YEAR)), PRO)
    weekly = plan("weekly", cadence=Cadence(unit="week"))
    assert _code(lambda: check_addon_fits(addon("extra", fee("extra", "1")), weekly)) == "cadence_mismatch"
    assert _code(lambda: check_addon_fits(addon("extra", plans=("basic",)), PRO)) == "addon_misfit"
    assert _code(lambda: check_addon_fits(addon("extra", currency="EUR"), PRO)) == "currency_mixed"
    check_addon_quantity(addon("extra", most=None), 10**6)
    assert _code(lambda: check_addon_quantity(addon("extra", most=2), 3)) == "addon_quantity_out_of_range"


def test_a_family_tells_upgrades_from_downgrades() -> None:
    newer = replace(PRO, id="pro-2", version=2)
    assert move_between(BASIC, PRO) == "upgrade"
    assert move_between(PRO, BASIC) == "downgrade"
    assert move_between(PRO, newer) == "new_version"
    assert move_between(BASIC, replace(PRO, family=None)) == "crossgrade"
    assert offers(BASIC, [BASIC, PRO, newer, replace(PRO, plan_id="pla_x", status="archived")]) == [newer]


def test_a_plan_without_phases_is_a_version_with_one() -> None:
    old = Plan(
        id="pla_1",
        key="old",
        name="Old",
        currency="USD",
        version=3,
        version_id="plv_3",
        status="published",
        cadence="quarter",
        prices=(PRO.phases[0].rate_cards[0].price,),
        entitlements=(),
        revision=1,
        created_at=NOW,
        archived_at=None,
    )
    (phase,) = version_of(old).phases
    assert (phase.duration, phase.rate_cards[0].timing, phase.rate_cards[0].cadence.unit) == (
        None,
        "in_arrears",
        "quarter",
    )


PRO_2 = replace(PRO, id="pro-2", version=2)
BOTH = Sold(plans={"basic": BASIC, "pro": PRO, "pro-2": PRO_2})
MIGRATION = PlanMigration(id="mig_1", from_version_id="pro", to_version_id="pro-2", made_by="ana")


def _stories() -> dict[str, Story]:
    stories = {name: begun(at(1, 1), of="pro", sold=BOTH) for name in ("moves", "planned", "cancelled")}
    stories["elsewhere"] = begun(at(1, 1), of="basic", sold=BOTH)
    stories["planned"].did(ChangePlan(plan_version_id="basic"), at(1, 5), "period_end")
    stories["cancelled"].did(Cancel(), at(1, 5))
    return stories


def _candidates(stories: dict[str, Story]) -> list[Candidate]:
    return [Candidate(subscription_id=name, history=story.history) for name, story in stories.items()]


def test_a_migration_moves_who_can_be_moved_and_says_why_others_are_not() -> None:
    planned = plan_migration(MIGRATION, _candidates(_stories()), BOTH, at(1, 10))
    assert [(each.subscription_id, each.preview.effective_at) for each in planned.moves] == [("moves", at(2, 1))]
    assert {each.subscription_id: each.code for each in planned.refused} == {
        "planned": "change_pending",
        "cancelled": "transition_refused",
        "elsewhere": "plan_version_differs",
    }
    assert (
        _code(lambda: plan_migration(replace(MIGRATION, to_version_id="pro"), [], BOTH, NOW)) == "migration_to_itself"
    )


def test_a_move_is_made_once_and_can_be_taken_back_before_and_after_it_takes_effect() -> None:
    for now, taken_back in ((at(1, 20), "withdraw"), (at(2, 5), "changed back")):
        story = _stories()["moves"]
        (move,) = plan_migration(MIGRATION, _candidates({"moves": story}), BOTH, at(1, 10)).moves
        story.history = (*story.history, record_change(story.history, move.request, BOTH, at(1, 10)).record)
        again = plan_migration(MIGRATION, _candidates({"moves": story}), BOTH, at(1, 11))
        assert [each.code for each in again.refused] == ["migrated_already"]
        back = record_change(story.history, rollback_request(MIGRATION, story.history, now), BOTH, now)
        story.history = (*story.history, back.record)
        assert subscription_at(story.history, BOTH, at(3, 1)).plan_version_id == "pro", taken_back
        repeat = rollback_request(MIGRATION, story.history, at(3, 1))
        assert record_change(story.history, repeat, BOTH, at(3, 1)).repeated


def test_what_was_not_migrated_or_changed_since_is_not_taken_back() -> None:
    story = _stories()["moves"]
    assert _code(lambda: rollback_request(MIGRATION, story.history, at(2, 5))) == "not_migrated"
    (move,) = plan_migration(MIGRATION, _candidates({"moves": story}), BOTH, at(1, 10)).moves
    story.history = (*story.history, record_change(story.history, move.request, BOTH, at(1, 10)).record)
    story.did(ChangePlan(plan_version_id="basic"), at(2, 3))
    assert _code(lambda: rollback_request(MIGRATION, story.history, at(2, 5))) == "plan_version_differs"


def test_a_version_that_is_archived_can_be_gone_back_to_by_who_held_it() -> None:
    archived = replace(PRO, status="archived")
    story = begun(at(1, 1), of="pro", sold=BOTH)
    story.did(ChangePlan(plan_version_id="pro-2"), at(1, 5))
    story.sold = Sold(plans={**BOTH.plans, "pro": archived})
    story.did(ChangePlan(plan_version_id="pro"), at(1, 6))
    stranger = begun(at(1, 1), of="basic", sold=BOTH)
    stranger.sold = story.sold
    assert _code(lambda: stranger.did(ChangePlan(plan_version_id="pro"), at(1, 6))) == "plan_archived"
