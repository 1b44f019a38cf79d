"""What a subscription is billed: segments, fees, credits, and previews of changes."""

from datetime import datetime
from decimal import Decimal

from msgspec.structs import replace

from domain.subscriptions.fees import fee_of
from domain.subscriptions.fold import fold
from domain.subscriptions.preview import preview
from domain.subscriptions.segments import segments
from domain.subscriptions.settlement import settle
from schemas.periods import Cadence
from schemas.plan_phases import Phase
from schemas.prices import FlatPrice
from schemas.subscription_changes import (
    Activate,
    Cancel,
    ChangePlan,
    Create,
    Pause,
    Resume,
    SetAddon,
    SetQuantity,
    UndoCancel,
)
from schemas.subscription_life import BookedFee, FeeLine, Segment, Sold
from tests.support.lives import BASIC, SOLD, YEAR, Story, asked, at, begun, booked, fee, plan

BEFORE = at(1, 1, year=2020)
JAN = at(1, 1)
MAR = at(3, 1)
APR = at(4, 1)


def _segments(story: Story, start: datetime, end: datetime) -> list[Segment]:
    return segments(fold(story.history), story.sold, start, end)


def _settled(
    story: Story, to: datetime, done: list[BookedFee] | None = None, since: datetime = BEFORE
) -> list[FeeLine]:
    return settle(fold(story.history), story.sold, done or [], since, to)


def _amounts(lines: list[FeeLine]) -> list[tuple[str, str, str]]:
    return [(line.kind, line.price_id, str(line.amount)) for line in lines]


def test_a_change_of_one_quantity_cuts_no_other_card() -> None:
    story = begun(JAN)
    story.did(SetQuantity(price_key="seats", quantity=Decimal(5)), at(3, 11))
    found = [(each.held.card.price.key, each.start, each.end) for each in _segments(story, MAR, APR)]
    assert found == [
        ("base", MAR, APR),
        ("seats", MAR, at(3, 11)),
        ("calls", MAR, APR),
        ("seats", at(3, 11), APR),
    ]


def test_calendar_billing_begins_with_a_stub_that_is_a_part_of_the_whole_month() -> None:
    story = begun(at(3, 15), of="basic", billing="calendar")
    stub, following = _segments(story, JAN, at(4, 2))
    assert (stub.start, stub.end, stub.whole.start, stub.whole.end) == (at(3, 15), APR, MAR, APR)
    assert fee_of(stub) == Decimal("17.00"), "17 of 31 days of a fee of 31"
    assert following.whole.start == APR


def test_cadences_of_one_subscription_lie_side_by_side() -> None:
    both = plan("both", fee("base", "12", of="both"), fee("support", "365", of="both", cadence=YEAR))
    story = begun(at(1, 31), of="both", sold=Sold(plans={"both": both}))
    lines = _settled(story, at(4, 1))
    assert [(line.price_key, line.start, line.end) for line in lines] == [
        ("base", at(1, 31), at(2, 28)),
        ("support", at(1, 31), at(1, 31, year=2027)),
        ("base", at(2, 28), at(3, 31)),
        ("base", at(3, 31), at(4, 30)),
    ]


def test_in_advance_is_due_when_a_period_begins_and_in_arrears_when_it_has_ended() -> None:
    mixed = plan("mixed", fee("ahead", "10", of="mixed"), fee("behind", "20", of="mixed", timing="in_arrears"))
    story = begun(JAN, of="mixed", sold=Sold(plans={"mixed": mixed}))
    assert _amounts(_settled(story, JAN)) == [("charge", "mixed.ahead", "10.00")]
    lines = _settled(story, at(2, 1))
    assert [(line.price_key, line.due_at) for line in lines] == [
        ("ahead", JAN),
        ("behind", at(2, 1)),
        ("ahead", at(2, 1)),
    ]


def test_a_subscription_that_starts_in_the_past_owes_every_period_that_has_gone_by() -> None:
    story = begun(JAN, of="basic", now=at(3, 20))
    assert [line.start for line in _settled(story, at(3, 20))] == [JAN, at(2, 1), MAR]


def test_a_trial_moves_the_first_paid_period_and_charges_nothing() -> None:
    story = begun(JAN, of="basic", trial_end=at(1, 15))
    first, *_ = _segments(story, JAN, at(2, 1))
    assert (first.trial, first.end, fee_of(first)) == (True, at(1, 15), Decimal(0))
    (line,) = _settled(story, at(2, 1))
    assert (line.start, line.end, line.amount) == (at(1, 15), at(2, 15), Decimal("31.00"))


def test_phases_bill_their_own_prices() -> None:
    ramp = plan(
        "ramp",
        phases=[
            Phase(key="one", duration=Cadence(unit="month", count=2), rate_cards=(fee("base", "10", of="one"),)),
            Phase(key="two", rate_cards=(fee("base", "20", of="two"),)),
        ],
    )
    story = begun(JAN, of="ramp", sold=Sold(plans={"ramp": ramp}))
    assert [line.price_id for line in _settled(story, APR)] == ["one.base", "one.base", "two.base", "two.base"]


def test_an_upgrade_at_once_credits_the_rest_of_the_old_fee_and_charges_that_of_the_new() -> None:
    story = begun(MAR, of="basic")
    done = booked(_settled(story, MAR))
    shown = preview(story.history, asked(ChangePlan(plan_version_id="pro")), SOLD, at(3, 11), done)
    assert _amounts([line for line in shown.lines if line.amount is not None]) == [
        ("credit", "basic.base", "-21.00"),
        ("charge", "pro.base", "210.00"),
        ("charge", "pro.seats", "13.55"),
    ]
    assert shown.due_now == shown.total == Decimal("202.55")
    usage = [line for line in shown.lines if line.kind == "usage"]
    assert [(line.start, line.due_at) for line in usage] == [(at(3, 11), APR)]
    story.did(ChangePlan(plan_version_id="pro"), at(3, 11))
    assert tuple(_settled(story, at(3, 11), done)) == tuple(line for line in shown.lines if line.amount is not None)


def test_a_preview_changes_nothing_and_a_settled_change_leaves_nothing_to_book() -> None:
    story = begun(MAR)
    done = booked(_settled(story, MAR))
    before = story.history
    preview(story.history, asked(SetQuantity(price_key="seats", quantity=Decimal(4))), SOLD, at(3, 11), done)
    assert story.history == before
    assert _settled(story, at(3, 20), done) == []
    story.did(SetQuantity(price_key="seats", quantity=Decimal(4)), at(3, 11))
    done += booked(_settled(story, at(3, 11), done))
    assert _settled(story, at(3, 20), done) == []


def test_a_credit_never_exceeds_what_was_paid() -> None:
    story = begun(MAR, of="basic")
    (line,) = _settled(story, MAR)
    done = [BookedFee(line=line, paid=Decimal(5))]
    shown = preview(story.history, asked(Cancel()), SOLD, at(3, 2), done)
    assert _amounts(list(shown.lines)) == [("credit", "basic.base", "-5")]
    unpaid = [BookedFee(line=line, paid=Decimal(0))]
    assert preview(story.history, asked(Cancel()), SOLD, at(3, 2), unpaid).lines == ()


def test_cancelling_at_period_end_gives_nothing_back_and_charges_nothing_more() -> None:
    story = begun(MAR, of="basic")
    done = booked(_settled(story, MAR))
    shown = preview(story.history, asked(Cancel(), "period_end"), SOLD, at(3, 10), done)
    assert (shown.lines, shown.state_before, shown.state_after) == ((), "active", "ended")
    story.did(Cancel(), at(3, 10), "period_end")
    assert _settled(story, at(6, 1), done) == []


def test_a_planned_end_within_a_paid_period_is_credited_when_it_comes_and_not_before() -> None:
    story = begun(MAR, of="basic")
    done = booked(_settled(story, MAR))
    story.did(Cancel(), at(3, 5), at(3, 11))
    assert _settled(story, at(3, 10), done) == []
    assert _amounts(_settled(story, at(3, 11), done)) == [("credit", "basic.base", "-21.00")]


def test_an_end_that_was_taken_back_in_time_costs_nothing() -> None:
    story = begun(MAR, of="basic")
    done = booked(_settled(story, MAR))
    story.did(Cancel(), at(3, 5), at(3, 11))
    story.did(UndoCancel(), at(3, 10))
    assert _settled(story, at(3, 20), done) == []


def test_a_pause_gives_back_what_was_paid_and_a_resumption_charges_the_rest() -> None:
    story = begun(MAR, of="basic")
    done = booked(_settled(story, MAR))
    story.did(Pause(), at(3, 11))
    paused = _settled(story, at(3, 11), done)
    assert _amounts(paused) == [("credit", "basic.base", "-21.00")]
    done += booked(paused)
    story.did(Resume(), at(3, 21))
    resumed = _settled(story, at(3, 21), done)
    assert _amounts(resumed) == [("charge", "basic.base", "11.00")]
    done += booked(resumed)
    assert _settled(story, at(3, 31), done) == []


def test_an_add_on_is_charged_for_each_unit_from_when_it_is_taken_on() -> None:
    story = begun(MAR, of="basic")
    done = booked(_settled(story, MAR))
    story.did(SetAddon(addon_version_id="storage", quantity=2), at(3, 16, 12))
    lines = _settled(story, at(3, 16, 12), done)
    assert _amounts(lines) == [("charge", "storage.storage", "62.00")], "half of twice 62"
    done += booked(lines)
    story.did(SetAddon(addon_version_id="storage", quantity=0), at(3, 24, 6))
    assert _amounts(_settled(story, at(3, 24, 6), done)) == [("credit", "storage.storage", "-31.00")]


def test_a_change_of_plan_at_period_end_shows_what_the_next_period_costs() -> None:
    story = begun(MAR, of="basic")
    done = booked(_settled(story, MAR))
    shown = preview(story.history, asked(ChangePlan(plan_version_id="pro"), "period_end"), SOLD, at(3, 10), done)
    assert shown.effective_at == APR
    assert _amounts([line for line in shown.lines if line.amount is not None]) == [
        ("charge", "pro.base", "310.00"),
        ("charge", "pro.seats", "20.00"),
    ]
    assert (shown.due_now, shown.total) == (Decimal(0), Decimal("330.00"))


def test_new_billing_periods_begin_where_a_change_asks_for_them() -> None:
    story = begun(MAR, of="basic")
    done = booked(_settled(story, MAR))
    story.did(ChangePlan(plan_version_id="pro", reset_anchor=True), at(3, 11))
    lines = _settled(story, at(3, 11), done)
    assert [(line.price_id, line.start, line.end, str(line.amount)) for line in lines] == [
        ("basic.base", at(3, 11), APR, "-21.00"),
        ("pro.base", at(3, 11), at(4, 11), "310.00"),
        ("pro.seats", at(3, 11), at(4, 11), "20.00"),
    ]


def test_in_arrears_a_change_shows_both_parts_that_will_be_due() -> None:
    old = plan("old", fee("base", "31", of="old", timing="in_arrears"))
    new = plan("new", fee("base", "62", of="new", timing="in_arrears"))
    sold = Sold(plans={"old": old, "new": new})
    story = begun(MAR, of="old", sold=sold)
    shown = preview(story.history, asked(ChangePlan(plan_version_id="new")), sold, at(3, 11))
    assert [(line.price_id, str(line.amount), line.due_at) for line in shown.lines] == [
        ("old.base", "10.00", APR),
        ("new.base", "42.00", APR),
    ]
    assert shown.due_now == 0


def test_the_preview_of_an_activation_shows_the_first_bill() -> None:
    story = Story()
    story.did(Create(customer_id="cus_1", plan_version_id="basic", currency="USD"), MAR)
    shown = preview(story.history, asked(Activate()), SOLD, MAR)
    assert (shown.state_before, shown.state_after, shown.due_now) == ("draft", "active", Decimal("31.00"))


def test_what_ended_before_is_not_looked_at_again() -> None:
    story = begun(JAN, of="basic")
    assert [line.start for line in _settled(story, MAR, since=at(2, 1))] == [at(2, 1), MAR]
    assert BASIC.cadence == Cadence(unit="month")


def test_a_draft_and_what_never_ran_owe_nothing() -> None:
    story = Story()
    story.did(Create(customer_id="cus_1", plan_version_id="basic", currency="USD"), JAN)
    assert _settled(story, APR) == []
    scheduled = begun(MAR, of="basic", now=JAN)
    scheduled.did(Cancel(), at(2, 1))
    assert _settled(scheduled, APR) == []


def test_a_fee_is_filled_up_to_its_minimum() -> None:
    low = fee("base", "10", of="least")
    least = replace(low, price=replace(low.price, price=FlatPrice(amount=Decimal(10), minimum_amount=Decimal(50))))
    story = begun(MAR, of="least", sold=Sold(plans={"least": plan("least", least)}))
    assert _amounts(_settled(story, MAR)) == [("charge", "least.base", "50.00")]
