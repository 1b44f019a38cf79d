"""Requests that change a subscription: what they ask for, made together or not at all, and what the row says after."""

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from msgspec.structs import replace

from domain.errors import Conflict, Invalid, MeterstreamError
from domain.subscriptions.amend import amended
from domain.subscriptions.asked import Asked, cancel_asked, change_asked, pause_asked, time_of
from domain.subscriptions.begin import told_by_row
from domain.subscriptions.fold import fold
from domain.subscriptions.grants import granted_spans
from domain.subscriptions.holding import holding, is_plain
from domain.subscriptions.preview import check_reach, difference
from schemas.entitlements import BooleanEntitlement, EntitlementSpec
from schemas.periods import Cadence
from schemas.plan_phases import Phase, PlanVersion
from schemas.subscription_changes import (
    Cancel,
    ChangePlan,
    Pause,
    Resume,
    SetAddon,
    SetQuantity,
    SetTrialEnd,
    UndoCancel,
)
from schemas.subscription_life import Sold
from schemas.subscription_requests import CancelSpec, ChangeSpec, PauseSpec
from schemas.subscriptions import Subscription
from tests.support.lives import Story, addon, asked, at, begun, fee, plan, seats

BASIC_GRANTS = (BooleanEntitlement(feature="fea_basic"),)
PRO_GRANTS = (BooleanEntitlement(feature="fea_pro"),)


def granting(version: PlanVersion, entitlements: tuple[EntitlementSpec, ...]) -> PlanVersion:
    return replace(version, phases=(replace(version.phases[0], entitlements=entitlements),))


BASIC = granting(plan("basic", fee("base", "31", of="basic", timing="in_arrears")), BASIC_GRANTS)
PRO = granting(
    plan("pro", fee("base", "310", timing="in_arrears"), seats("10", timing="in_arrears", quantity=2)), PRO_GRANTS
)
RAMP = plan(
    "ramp",
    phases=[
        Phase(key="trial", duration=Cadence(unit="day", count=10), trial=True),
        Phase(key="first", duration=Cadence(unit="month"), entitlements=BASIC_GRANTS),
        Phase(key="then", entitlements=PRO_GRANTS),
    ],
)
STORAGE = replace(
    addon("storage", fee("space", "5", of="storage", timing="in_arrears")),
    entitlements=(BooleanEntitlement(feature="fea_storage"),),
)
SOLD = Sold(plans={each.id: each for each in (BASIC, PRO, RAMP)}, addons={"storage": STORAGE})


def story(**terms: object) -> Story:
    return begun(at(1, 1), of="basic", sold=SOLD, **terms)  # type: ignore[arg-type]


def code_of(error: pytest.ExceptionInfo[MeterstreamError]) -> str:
    return error.value.code


def test_changes_of_one_request_are_made_together_or_not_at_all() -> None:
    told = story().history
    both = [
        asked(ChangePlan(plan_version_id="pro"), key="k/1"),
        asked(SetQuantity(price_key="seats", quantity=Decimal(5)), key="k/2"),
    ]
    changed = amended(told, both, SOLD, at(3, 11))
    assert [record.revision for record in changed.records] == [3, 4]
    assert changed.life == fold((*told, *changed.records))
    again = amended((*told, *changed.records), both, SOLD, at(3, 12))
    assert (again.records, again.life) == ((), changed.life)
    wrong = asked(SetQuantity(price_key="nothing", quantity=Decimal(5)), key="k/2")
    with pytest.raises(Invalid) as refused:
        amended(told, [both[0], wrong], SOLD, at(3, 11))
    assert code_of(refused) == "price_key_unknown"


def test_cancelling_twice_is_cancelling_once_and_another_end_replaces_the_first() -> None:
    told = story().history
    at_period_end = [asked(Cancel(), "period_end", key="one")]
    first = amended(told, at_period_end, SOLD, at(3, 11))
    told = (*told, *first.records)
    assert fold(told).cancellation is not None
    assert not amended(told, [asked(Cancel(), "period_end", key="two")], SOLD, at(3, 12)).records
    sooner = amended(told, [asked(Cancel(), at(3, 20), key="three")], SOLD, at(3, 12))
    assert sooner.life.cancellation is not None
    assert sooner.life.cancellation.end_at == at(3, 20)


def test_a_preview_looks_a_thousand_periods_ahead_and_no_further() -> None:
    life = fold(story().history)
    check_reach(life, SOLD, at(3, 11) + 1000 * timedelta(days=28), at(3, 11))
    with pytest.raises(Invalid) as refused:
        check_reach(life, SOLD, at(3, 12) + 1000 * timedelta(days=28), at(3, 11))
    assert code_of(refused) == "preview_too_far"


def test_an_end_that_is_billed_up_to_is_not_taken_back() -> None:
    told = story().history
    ended = (*told, *amended(told, [asked(Cancel(), at(3, 20), key="end")], SOLD, at(3, 11)).records)
    undo = [asked(UndoCancel(), key="undo")]
    assert amended(ended, undo, SOLD, at(3, 19), at(3, 1)).life.cancellation is None
    with pytest.raises(Conflict) as refused:
        amended(ended, undo, SOLD, at(3, 19), at(3, 20))
    assert code_of(refused) == "change_before_invoice"


def test_a_time_is_now_the_end_of_the_period_or_an_instant() -> None:
    assert (time_of("now"), time_of("period_end"), time_of("2026-03-11T00:00:00Z")) == ("now", "period_end", at(3, 11))
    with pytest.raises(Invalid) as refused:
        time_of("tomorrow")
    assert code_of(refused) == "invalid_instant"


def test_a_request_is_read_as_the_changes_that_it_asks_for() -> None:
    assert cancel_asked(CancelSpec()) == Asked(changes=(Cancel(),), when="period_end")
    assert cancel_asked(CancelSpec(undo=True)).changes == (UndoCancel(),)
    assert pause_asked(PauseSpec(resumes_at=at(4, 1))).changes == (Pause(resumes_at=at(4, 1)),)
    both = change_asked(ChangeSpec(quantities={"seats": Decimal(3)}, when="period_end"), "pro")
    assert both.changes == (ChangePlan(plan_version_id="pro"), SetQuantity(price_key="seats", quantity=Decimal(3)))
    assert [each.key for each in both.requests("ana", "k")] == ["k/1", "k/2"]
    trial = change_asked(ChangeSpec(trial_end_at=at(2, 1)), None)
    assert (trial.changes, trial.when) == ((SetTrialEnd(),), at(2, 1))


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        (ChangeSpec(), "change_missing"),
        (ChangeSpec(quantities={"seats": Decimal(1)}, withdraw=3), "change_ambiguous"),
        (ChangeSpec(trial_end_at=at(2, 1), withdraw=3), "change_ambiguous"),
    ],
)
def test_a_change_of_nothing_or_of_two_kinds_is_refused(spec: ChangeSpec, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        change_asked(spec, None)
    assert code_of(refused) == code


def test_a_row_says_all_of_a_plain_life_and_keeps_any_other_beside_it() -> None:
    plain = story()
    assert holding(fold(plain.history), SOLD, at(1, 2)).life is None
    plain.did(Cancel(), at(3, 11), "period_end")
    row = holding(fold(plain.history), SOLD, at(3, 11), at(3, 1))
    assert (row.life, row.state, row.end_at, row.next_close_at) == (None, "cancelled", at(4, 1), at(4, 1))
    plain.did(UndoCancel(), at(3, 12))
    assert is_plain(fold(plain.history))
    plain.did(ChangePlan(plan_version_id="pro"), at(3, 13), "period_end")
    row = holding(fold(plain.history), SOLD, at(3, 13), at(3, 1))
    assert (row.life, row.plan_version_id) == (fold(plain.history), "basic")


def test_a_subscription_that_is_called_off_before_its_start_has_nothing_to_close() -> None:
    scheduled = begun(at(2, 1), of="basic", sold=SOLD, now=at(1, 1))
    scheduled.did(Cancel(), at(1, 2))
    row = holding(fold(scheduled.history), SOLD, at(1, 2))
    assert (row.state, row.end_at, row.next_close_at) == ("ended", at(2, 1), None)
    assert not granted_spans(fold(scheduled.history), SOLD, at(1, 2))


def test_a_trial_that_is_moved_moves_where_billing_begins() -> None:
    trial = story(trial_end=at(1, 15))
    trial.did(SetTrialEnd(), at(1, 10), at(1, 20))
    row = holding(fold(trial.history), SOLD, at(1, 10))
    assert (row.state, row.trial_end_at, row.closed_to, row.next_close_at) == (
        "trialing",
        at(1, 20),
        at(1, 20),
        at(2, 20),
    )


def test_each_plan_grants_while_it_is_held_and_a_pause_grants_nothing() -> None:
    told = story()
    told.did(ChangePlan(plan_version_id="pro"), at(3, 11), "period_end")
    told.did(Pause(), at(3, 12), at(5, 10))
    assert granted_spans(fold(told.history), SOLD, at(3, 12)) == [
        (at(1, 1), at(4, 1), BASIC_GRANTS, 1),
        (at(4, 1), at(5, 10), PRO_GRANTS, 1),
    ]
    told.did(Resume(), at(5, 20), at(5, 20))
    told.did(Cancel(), at(5, 20), at(6, 1))
    assert granted_spans(fold(told.history), SOLD, at(4, 1)) == [
        (at(4, 1), at(5, 10), PRO_GRANTS, 1),
        (at(5, 20), at(6, 1), PRO_GRANTS, 1),
    ]


def test_a_change_of_quantity_divides_no_grant() -> None:
    told = begun(at(1, 1), of="pro", sold=SOLD)
    told.did(SetQuantity(price_key="seats", quantity=Decimal(5)), at(3, 11))
    assert granted_spans(fold(told.history), SOLD, at(3, 12)) == [(at(1, 1), None, PRO_GRANTS, 1)]


def test_an_add_on_grants_by_its_units_and_not_while_it_is_off_or_paused() -> None:
    told = begun(at(1, 1), of="pro", sold=SOLD)
    told.did(SetAddon(addon_version_id="storage", quantity=2), at(3, 11))
    told.did(SetAddon(addon_version_id="storage", quantity=3), at(4, 11))
    told.did(Pause(resumes_at=at(4, 20)), at(4, 15))
    told.did(SetAddon(addon_version_id="storage", quantity=0), at(4, 25), at(5, 1))
    assert granted_spans(fold(told.history), SOLD, at(3, 11)) == [
        (at(1, 1), at(4, 15), PRO_GRANTS, 1),
        (at(4, 20), None, PRO_GRANTS, 1),
        (at(3, 11), at(4, 11), STORAGE.entitlements, 2),
        (at(4, 11), at(4, 15), STORAGE.entitlements, 3),
        (at(4, 20), at(5, 1), STORAGE.entitlements, 3),
    ]


def test_each_phase_grants_what_it_says() -> None:
    told = begun(at(1, 1), of="ramp", sold=SOLD)
    life = fold(told.history)
    assert holding(life, SOLD, at(1, 1)).life == life
    assert granted_spans(life, SOLD, at(1, 1)) == [
        (at(1, 1), at(1, 11), (), 1),
        (at(1, 11), at(2, 11), BASIC_GRANTS, 1),
        (at(2, 11), None, PRO_GRANTS, 1),
    ]


def test_a_preview_of_several_changes_shows_what_they_do_together() -> None:
    told = story().history
    both = [
        asked(ChangePlan(plan_version_id="pro"), key="k/1"),
        asked(SetQuantity(price_key="seats", quantity=Decimal(31)), key="k/2"),
    ]
    changed = amended(told, both, SOLD, at(3, 11))
    shown = difference(fold(told), changed.life, changed.records[0].effective_at, SOLD, at(3, 11))
    assert [(line.price_id, line.kind, line.amount) for line in shown.lines] == [
        ("basic.base", "charge", Decimal("10.00")),
        ("pro.base", "charge", Decimal("210.00")),
        ("pro.seats", "charge", Decimal("210.00")),
    ]
    assert (shown.due_now, shown.total) == (Decimal(0), Decimal("430.00"))


def test_no_change_reaches_back_behind_an_invoice() -> None:
    told = story().history
    with pytest.raises(Conflict) as refused:
        amended(told, [asked(ChangePlan(plan_version_id="pro"), at(2, 20))], SOLD, at(3, 11), at(3, 1))
    assert code_of(refused) == "change_before_invoice"


@pytest.mark.parametrize("end_at", [None, at(4, 1)])
def test_a_row_without_a_history_tells_one_that_says_what_it_says(end_at: datetime | None) -> None:
    row = Subscription(
        id="sub_1",
        customer_id="cus_1",
        plan_id="pla_basic",
        plan_version_id="basic",
        status="active",
        billing="anniversary",
        timezone="UTC",
        start_at=at(1, 1),
        end_at=end_at,
        closed_to=at(3, 1),
        next_close_at=at(4, 1),
        revision=1,
        created_at=at(1, 1) + timedelta(milliseconds=5),
    )
    told = told_by_row(row, "USD")
    life = fold(told)
    assert is_plain(life)
    held = holding(life, SOLD, at(3, 11), at(3, 1))
    assert (held.start_at, held.end_at, held.next_close_at, held.plan_version_id) == (
        row.start_at,
        row.end_at,
        row.next_close_at,
        row.plan_version_id,
    )
    changed = amended(told, [asked(Cancel(), at(3, 20))], SOLD, at(3, 11))
    assert changed.records[0].revision == len(told) + 1
