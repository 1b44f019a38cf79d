"""Lives of subscriptions as histories: what holds when, and what is refused."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec
import pytest

from domain.errors import Conflict, Invalid, MeterstreamError, NotFound
from domain.subscriptions.at import life_at, subscription_at
from domain.subscriptions.fold import apply, fold
from schemas.periods import Cadence
from schemas.plan_phases import Phase
from schemas.subscription_changes import (
    Activate,
    Cancel,
    Change,
    ChangePlan,
    ChangeRecord,
    Create,
    History,
    Pause,
    PaymentFailed,
    PaymentRecovered,
    Resume,
    SetAddon,
    SetQuantity,
    SetTrialEnd,
    UndoCancel,
    Withdraw,
)
from schemas.subscription_life import Sold, SubscriptionState
from tests.support.lives import BASIC, PRO, SOLD, YEAR, Story, addon, at, begun, fee, plan

JAN = at(1, 1)
SECOND = timedelta(seconds=1)
RAMP = plan(
    "ramp",
    phases=[
        Phase(key="trial", duration=Cadence(unit="day", count=14), trial=True),
        Phase(key="first", duration=Cadence(unit="month", count=3), rate_cards=(fee("base", "10", of="ramp1"),)),
        Phase(key="then", rate_cards=(fee("base", "20", of="ramp2"),)),
    ],
)
WIDE = Sold(
    plans={
        **SOLD.plans,
        "ramp": RAMP,
        "draft": plan("draft", status="draft"),
        "old": plan("old", status="archived"),
        "euro": plan("euro", currency="EUR"),
        "weekly": plan("weekly", fee("base", "1", of="weekly"), cadence=Cadence(unit="week")),
    },
    addons={
        **SOLD.addons,
        "basic-only": addon("basic-only", plans=("basic",)),
        "euro": addon("euro", currency="EUR"),
        "yearly": addon("yearly", fee("extra", "1", of="yearly", cadence=YEAR)),
    },
)


def _state(story: Story, instant: datetime) -> SubscriptionState:
    return subscription_at(story.history, story.sold, instant).state


def _refused(act: Callable[[], object]) -> MeterstreamError:
    with pytest.raises(MeterstreamError) as refused:
        act()
    return refused.value


def test_a_subscription_begins_as_a_draft_and_waits_for_its_start() -> None:
    story = Story()
    story.did(Create(customer_id="cus_1", plan_version_id="pro", currency="USD"), JAN)
    assert _state(story, at(1, 2)) == "draft"
    story.did(Activate(), at(1, 3), at(2, 1))
    assert _state(story, at(1, 31)) == "scheduled"
    assert _state(story, at(2, 1)) == "active"


def test_a_start_in_the_past_holds_from_there_on_but_was_not_known_then() -> None:
    story = begun(at(1, 1), now=at(3, 10))
    assert _state(story, at(1, 15)) == "active"
    with pytest.raises(Conflict, match="begins with its creation"):
        subscription_at(story.history, SOLD, at(1, 15), known_at=at(2, 1))


def test_a_trial_comes_from_the_plan_and_moves_the_ramp_behind_it() -> None:
    story = begun(JAN, of="ramp", sold=WIDE)
    there = [subscription_at(story.history, WIDE, instant) for instant in (JAN, at(1, 15), at(4, 14), at(4, 15))]
    assert [(each.state, each.phase_key) for each in there] == [
        ("trialing", "trial"),
        ("active", "first"),
        ("active", "first"),
        ("active", "then"),
    ]
    assert there[0].trial_end_at == at(1, 15)
    assert there[1].trial_end_at is None


def test_a_trial_is_ended_early_or_extended_while_it_runs() -> None:
    story = begun(JAN, of="ramp", sold=WIDE)
    story.did(SetTrialEnd(), at(1, 5), at(2, 1))
    assert _state(story, at(1, 20)) == "trialing"
    story.did(SetTrialEnd(), at(1, 21))
    assert _state(story, at(1, 21)) == "active"
    assert _refused(lambda: story.did(SetTrialEnd(), at(1, 22), at(2, 1))).code == "transition_refused"


def test_a_cancellation_at_period_end_runs_on_and_can_be_undone_until_then() -> None:
    story = begun(JAN)
    story.did(Cancel(), at(3, 10), "period_end")
    assert [_state(story, instant) for instant in (at(3, 9), at(3, 10), at(4, 1) - SECOND, at(4, 1))] == [
        "active",
        "cancelled",
        "cancelled",
        "ended",
    ]
    story.did(UndoCancel(), at(3, 20))
    assert [_state(story, instant) for instant in (at(3, 12), at(3, 20), at(5, 1))] == ["cancelled", "active", "active"]
    story.did(Cancel(), at(5, 1))
    assert _state(story, at(5, 1)) == "ended"
    assert _refused(lambda: story.did(UndoCancel(), at(5, 2))).code == "transition_refused"


def test_what_is_cancelled_before_it_starts_never_runs() -> None:
    story = begun(at(2, 1), now=JAN)
    story.did(Cancel(), at(1, 10))
    assert _state(story, at(1, 9)) == "scheduled"
    assert _state(story, at(2, 2)) == "ended"


def test_a_pause_ends_by_itself_or_when_it_is_resumed() -> None:
    story = begun(JAN)
    story.did(Pause(resumes_at=at(3, 1)), at(2, 1))
    assert subscription_at(story.history, SOLD, at(2, 2)).resumes_at == at(3, 1)
    assert _state(story, at(3, 1)) == "active"
    story.did(Resume(), at(2, 10))
    assert _state(story, at(2, 9)) == "paused"
    assert _state(story, at(2, 10)) == "active"


def test_a_debt_outlives_a_pause() -> None:
    story = begun(JAN)
    story.did(Pause(), at(2, 1))
    story.did(PaymentFailed(invoice_id="inv_1"), at(2, 3))
    story.did(Resume(), at(2, 5))
    story.did(PaymentRecovered(invoice_id="inv_1"), at(2, 9))
    assert [_state(story, at(2, day)) for day in (4, 5, 9)] == ["paused", "past_due", "active"]


def test_it_is_past_due_until_every_invoice_that_failed_is_paid() -> None:
    story = begun(JAN)
    story.did(PaymentFailed(invoice_id="inv_1"), at(2, 1))
    story.did(PaymentFailed(invoice_id="inv_2"), at(2, 2))
    story.did(PaymentRecovered(invoice_id="inv_1"), at(2, 3))
    assert _state(story, at(2, 3)) == "past_due"
    story.did(PaymentRecovered(invoice_id="inv_2"), at(2, 4))
    assert _state(story, at(2, 4)) == "active"


def test_what_was_planned_for_after_the_end_lapses() -> None:
    story = begun(JAN)
    story.did(Pause(), at(2, 1), at(5, 1))
    story.did(ChangePlan(plan_version_id="basic"), at(2, 1), at(6, 1))
    story.did(Cancel(), at(2, 2), "period_end")
    late = subscription_at(story.history, SOLD, at(7, 1))
    assert (late.state, late.cards, late.paused) == ("ended", (), False)


def test_a_change_that_has_not_taken_effect_is_withdrawn() -> None:
    story = begun(JAN)
    story.did(ChangePlan(plan_version_id="basic"), at(1, 10), "period_end")
    story.did(Withdraw(revision=3), at(1, 20))
    assert subscription_at(story.history, SOLD, at(2, 2)).plan_version_id == "pro"
    assert _refused(lambda: story.did(Withdraw(revision=3), at(1, 21))).code == "change_not_found"


def test_a_withdrawn_resumption_leaves_the_pause_as_it_was() -> None:
    story = begun(JAN)
    story.did(Pause(resumes_at=at(3, 1)), at(2, 1))
    story.did(Resume(), at(2, 2), at(2, 10))
    story.did(Withdraw(revision=4), at(2, 3))
    assert subscription_at(story.history, SOLD, at(2, 15)).resumes_at == at(3, 1)


def test_every_card_says_by_which_changes_it_is_there() -> None:
    story = begun(JAN)
    story.did(SetQuantity(price_key="seats", quantity=Decimal(7)), at(2, 1))
    story.did(SetAddon(addon_version_id="storage", quantity=3), at(2, 2))
    held = {each.card.price.key: each for each in subscription_at(story.history, SOLD, at(2, 3)).cards}
    assert (held["seats"].quantity, held["seats"].by) == (Decimal(7), (1, 3))
    assert (held["storage"].times, held["storage"].by) == (3, (4,))
    before = {each.card.price.key: each.quantity for each in subscription_at(story.history, SOLD, at(1, 31)).cards}
    assert before == {"base": Decimal(1), "seats": Decimal(2), "calls": Decimal(1)}


def test_quantities_stay_with_a_new_plan_that_has_the_same_fee() -> None:
    bigger = plan("bigger", fee("base", "1", of="bigger"), *PRO.phases[0].rate_cards[1:])
    story = begun(JAN, sold=Sold(plans={**SOLD.plans, "bigger": bigger}), quantities={"seats": Decimal(9)})
    story.did(ChangePlan(plan_version_id="bigger"), at(1, 10))
    held = subscription_at(story.history, story.sold, at(1, 10))
    assert {each.card.price.key: each.quantity for each in held.cards}["seats"] == Decimal(9)


def test_phases_count_from_the_change_or_go_on_from_before_it() -> None:
    for keep, phase in ((False, "first"), (True, "then")):
        story = begun(JAN, sold=WIDE)
        story.did(ChangePlan(plan_version_id="ramp", keep_phase_clock=keep), at(6, 1))
        assert subscription_at(story.history, WIDE, at(6, 2)).phase_key == phase, "and there is no second trial"


def test_a_draft_takes_changes_of_terms_that_hold_from_its_start() -> None:
    story = Story()
    story.did(Create(customer_id="cus_1", plan_version_id="pro", currency="USD"), at(2, 1))
    story.did(ChangePlan(plan_version_id="basic"), at(2, 2))
    story.did(SetAddon(addon_version_id="storage", quantity=1), at(2, 3))
    story.did(Activate(), at(2, 4), at(1, 1))
    there = subscription_at(story.history, SOLD, at(1, 1))
    assert (there.plan_version_id, there.addons) == ("basic", {"storage": 1})


def test_the_same_key_records_a_change_once_and_no_other_change() -> None:
    story = begun(JAN)
    first = story.did(SetQuantity(price_key="seats", quantity=Decimal(5)), at(1, 10), key="same")
    again = story.did(SetQuantity(price_key="seats", quantity=Decimal(5)), at(1, 12), key="same", expected=2)
    assert (again.record, again.repeated, again.life) == (first.record, True, first.life)
    other = _refused(lambda: story.did(SetQuantity(price_key="seats", quantity=Decimal(6)), at(1, 12), key="same"))
    assert (type(other), other.code) == (Invalid, "idempotency_key_reused")
    assert story.did(Activate(), JAN, JAN, key="k2").repeated, "the plan's trial, filled in, is no difference"


def test_two_changes_of_one_revision_cannot_both_be_made() -> None:
    story = begun(JAN)
    story.did(ChangePlan(plan_version_id="basic"), at(1, 10), expected=2)
    refused = _refused(lambda: story.did(SetQuantity(price_key="seats", quantity=Decimal(1)), at(1, 10), expected=2))
    assert (type(refused), refused.code) == (Conflict, "revision_mismatch")


def test_two_identical_upgrades_without_a_revision_make_one() -> None:
    story = begun(JAN, of="basic")
    story.did(ChangePlan(plan_version_id="pro"), at(1, 10))
    assert _refused(lambda: story.did(ChangePlan(plan_version_id="pro"), at(1, 10))).code == "plan_unchanged"


def test_a_clock_that_is_behind_does_not_turn_the_order_of_a_history() -> None:
    story = begun(JAN, now=at(1, 5))
    assert story.did(Pause(), at(1, 4)).record.made_at == at(1, 5)


def test_a_history_reads_back_from_its_json_as_it_was_written() -> None:
    story = begun(JAN)
    story.did(Pause(resumes_at=at(2, 1)), at(1, 10))
    story.did(Cancel(), at(1, 11), "period_end")
    read = msgspec.json.decode(msgspec.json.encode(story.history), type=tuple[ChangeRecord, ...])
    assert read == story.history
    assert life_at(fold(read), SOLD, at(1, 20)) == subscription_at(story.history, SOLD, at(1, 20))


def _bad(change: Change, code: str, when: datetime | str = "now") -> tuple[object, ...]:
    return change, code, when


@pytest.mark.parametrize(
    ("change", "code", "when"),
    [
        _bad(Cancel(), "end_before_start", at(1, 1, year=2025)),
        _bad(Pause(), "change_before_start", at(1, 1, year=2025)),
        _bad(ChangePlan(plan_version_id="basic"), "change_before_invoice", at(1, 20)),
        _bad(Cancel(), "change_before_invoice", at(1, 20)),
        _bad(Pause(resumes_at=at(2, 10)), "resume_before_pause"),
        _bad(Pause(resumes_at=at(2, 10).replace(microsecond=1)), "instant_not_whole_seconds"),
        _bad(Pause(), "instant_not_whole_seconds", at(3, 1).replace(microsecond=1)),
        _bad(Pause(), "time_without_zone", datetime(2026, 3, 1)),  # noqa: DTZ001 - the case
        _bad(Cancel(), "instant_out_of_range", at(1, 1, year=2100)),
        _bad(UndoCancel(), "transition_refused"),
        _bad(UndoCancel(), "change_has_no_time", at(3, 1)),
        _bad(Resume(), "transition_refused"),
        _bad(Activate(), "transition_refused"),
        _bad(PaymentRecovered(invoice_id="inv_1"), "transition_refused"),
        _bad(Create(customer_id="cus_1", plan_version_id="pro", currency="USD"), "transition_refused"),
        _bad(ChangePlan(plan_version_id="none"), "plan_version_not_found"),
        _bad(ChangePlan(plan_version_id="draft"), "plan_not_published"),
        _bad(ChangePlan(plan_version_id="old"), "plan_archived"),
        _bad(ChangePlan(plan_version_id="euro"), "currency_mixed"),
        _bad(ChangePlan(plan_version_id="pro"), "plan_unchanged"),
        _bad(SetQuantity(price_key="nothing", quantity=Decimal(1)), "price_key_unknown"),
        _bad(SetQuantity(price_key="calls", quantity=Decimal(1)), "quantity_of_usage"),
        _bad(SetQuantity(price_key="seats", quantity=Decimal(-1)), "quantity_negative"),
        _bad(SetQuantity(price_key="seats", quantity=Decimal("1e30")), "quantity_out_of_range"),
        _bad(SetAddon(addon_version_id="none", quantity=1), "addon_version_not_found"),
        _bad(SetAddon(addon_version_id="storage", quantity=11), "addon_quantity_out_of_range"),
        _bad(SetAddon(addon_version_id="storage", quantity=0), "addon_not_held"),
        _bad(SetAddon(addon_version_id="basic-only", quantity=1), "addon_misfit"),
        _bad(SetAddon(addon_version_id="euro", quantity=1), "currency_mixed"),
        _bad(Withdraw(revision=1), "change_in_effect"),
        _bad(Withdraw(revision=9), "change_not_found"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_the_history_as_it_was(change: Change, code: str, when: datetime) -> None:
    story = begun(JAN, sold=WIDE)
    before = story.history
    refused = _refused(lambda: story.did(change, at(2, 10), when, billed_to=at(2, 1)))
    assert (refused.code, story.history) == (code, before)
    assert isinstance(refused, Invalid | Conflict | NotFound)


def test_a_second_change_of_plan_waits_until_the_first_is_withdrawn() -> None:
    story = begun(JAN, sold=WIDE)
    story.did(ChangePlan(plan_version_id="basic"), at(1, 10), "period_end")
    assert _refused(lambda: story.did(ChangePlan(plan_version_id="ramp"), at(1, 11))).code == "change_pending"


def test_an_add_on_whose_periods_cross_those_of_a_new_plan_holds_it_up() -> None:
    story = begun(JAN, sold=WIDE)
    story.did(SetAddon(addon_version_id="yearly", quantity=1), at(1, 5))
    assert _refused(lambda: story.did(ChangePlan(plan_version_id="weekly"), at(1, 11))).code == "cadence_mismatch"


def test_a_pause_that_a_longer_trial_would_swallow_holds_the_trial_up() -> None:
    story = begun(JAN, of="ramp", sold=WIDE)
    story.did(Pause(), at(1, 2), at(1, 20))
    assert _refused(lambda: story.did(SetTrialEnd(), at(1, 3), at(2, 1))).code == "transition_refused"


def test_a_trial_does_not_end_before_the_start() -> None:
    story = Story()
    story.did(Create(customer_id="cus_1", plan_version_id="pro", currency="USD"), JAN)
    refused = _refused(lambda: story.did(Activate(trial_end_at=JAN), at(1, 2), at(1, 2)))
    assert refused.code == "trial_end_before_start"


def test_nothing_can_be_changed_before_it_is_created() -> None:
    assert _refused(lambda: Story().did(Pause(), JAN)).code == "history_not_begun"
    assert _refused(lambda: fold(())).code == "history_not_begun"


def test_what_is_stored_grows_by_one_record_at_a_time_into_what_the_history_tells() -> None:
    story = begun(JAN, of="basic")
    story.did(ChangePlan(plan_version_id="pro"), at(1, 10))
    stored = None
    for record in story.history:
        stored = apply(stored, record)
    assert stored == fold(story.history)
    assert BASIC.id in [each.plan_version_id for each in fold(story.history).plans]


def test_history_is_a_tuple_of_records() -> None:
    history: History = begun(JAN).history
    assert [(record.revision, record.made_by, record.effective_at) for record in history] == [
        (1, "ana", JAN),
        (2, "ana", JAN),
    ]
