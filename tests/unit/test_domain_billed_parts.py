"""What a period is billed for, where its terms were changed on the way."""

from datetime import datetime
from decimal import Decimal

import pytest
from msgspec.structs import replace

from domain.billed_parts import meters_sold, parts_of, place_of
from domain.billing import bill, ranges_of
from domain.errors import Invalid
from domain.subscriptions.amend import amended
from domain.subscriptions.billable import check_billable
from domain.subscriptions.fold import fold
from domain.subscriptions.holding import holding
from schemas.billing import BilledMeter, Contracts, Counted
from schemas.closing import ClosableSubscription, DuePeriod
from schemas.invoices import Invoice, InvoiceLine
from schemas.meters import Meter
from schemas.plan_phases import PlanVersion
from schemas.plans import Plan
from schemas.scope import Scope
from schemas.subscription_changes import Cancel, ChangePlan, Pause, Resume, SetAddon, SetQuantity
from schemas.subscription_life import Sold
from tests.support import held as support_held
from tests.support.lives import YEAR, Story, addon, asked, at, begun, fee, plan, seats, usage

BASIC = plan("basic", fee("base", "31", of="basic", timing="in_arrears"), usage(of="basic"))
PRO = plan(
    "pro",
    fee("base", "310", timing="in_arrears"),
    seats("3.10", timing="in_arrears", quantity=2),
    usage(),
)
STORAGE = addon("storage", fee("space", "31", of="storage", timing="in_arrears"), usage(of="storage"))
SOLD = Sold(plans={each.id: each for each in (BASIC, PRO)}, addons={"storage": STORAGE})
MARCH = DuePeriod(subscription_id="sub_1", start=at(3, 1), end=at(4, 1))
CALLS = Meter(id="met_calls", key="calls", event_types=("call",), aggregation="count")
CUSTOMER = replace(support_held.CUSTOMER, external_id=None, name="")


def plain(version: PlanVersion) -> Plan:
    return Plan(
        id=version.plan_id,
        key=version.plan_key,
        name="",
        currency=version.currency,
        version=1,
        version_id=version.id,
        status="published",
        cadence="month",
        prices=tuple(card.price for card in version.phases[0].rate_cards),
        entitlements=(),
        revision=1,
        created_at=at(1, 1),
        archived_at=None,
    )


def held(story: Story) -> ClosableSubscription:
    row = holding(fold(story.history), SOLD, at(12, 1))
    return ClosableSubscription(
        id="sub_1",
        scope=Scope("ten", "live"),
        customer_id="cus_1",
        plan_version_id=row.plan_version_id,
        billing="anniversary",
        cadence="month",
        timezone="UTC",
        start_at=row.trial_end_at or row.start_at,
        end_at=row.end_at,
        closed_to=row.closed_to,
        next_close_at=row.next_close_at,
        life=row.life,
        sold=SOLD,
    )


def billed(story: Story, used: dict[tuple[datetime, datetime], int], period: DuePeriod = MARCH) -> Invoice:
    """March, with so many calls in each span that is read; none in others."""
    subscription = held(story)
    contracts = Contracts(
        held={"sub_1": subscription},
        plans={each.id: plain(each) for each in (BASIC, PRO)},
        customers={"cus_1": CUSTOMER},
        meters={"met_calls": CALLS},
    )
    counts: dict[BilledMeter, Counted] = {}
    for place, one in ranges_of(contracts, [period])[subscription.scope].items():
        read = one.spans or ((one.start, one.end),)
        value = Decimal(sum(used.get(span, 0) for span in read))
        counts[place] = Counted(value=value, recount=value)
    made = bill(contracts, [period], counts, 1, lambda prefix: prefix)
    assert made.failed is None
    return made.invoices[0]


def shown(lines: tuple[InvoiceLine, ...]) -> list[tuple[str, str, datetime, datetime, Decimal]]:
    return [(line.price_id, line.kind, line.period_start, line.period_end, line.amount) for line in lines]


def test_a_plan_changed_on_the_way_bills_each_plan_for_its_part() -> None:
    story = begun(at(1, 1), of="basic", sold=SOLD)
    story.did(ChangePlan(plan_version_id="pro"), at(3, 11))
    made = billed(story, {(at(3, 1), at(3, 11)): 100, (at(3, 11), at(4, 1)): 300})
    assert shown(made.lines) == [
        ("basic.base", "fee", at(3, 1), at(3, 11), Decimal("10.00")),
        ("basic.calls", "usage", at(3, 1), at(3, 11), Decimal("1.00")),
        ("pro.base", "fee", at(3, 11), at(4, 1), Decimal("210.00")),
        ("pro.seats", "fee", at(3, 11), at(4, 1), Decimal("4.20")),
        ("pro.calls", "usage", at(3, 11), at(4, 1), Decimal("3.00")),
    ]
    assert made.total == Decimal("228.20")


def test_usage_of_a_plan_that_was_come_back_to_is_rated_together() -> None:
    story = begun(at(1, 1), of="pro", sold=SOLD)
    story.did(ChangePlan(plan_version_id="basic"), at(3, 11))
    story.did(ChangePlan(plan_version_id="pro"), at(3, 21))
    made = billed(story, {(at(3, 1), at(3, 11)): 7, (at(3, 11), at(3, 21)): 100, (at(3, 21), at(4, 1)): 5})
    calls = [line for line in made.lines if line.kind == "usage"]
    assert [(line.price_id, line.quantity) for line in calls] == [
        ("pro.calls", Decimal(12)),
        ("basic.calls", Decimal(100)),
    ]
    assert sum(line.amount for line in made.lines if line.price_id == "pro.base") == Decimal("210.00")


def test_nothing_is_billed_for_a_pause_and_fees_share_what_is_left() -> None:
    story = begun(at(1, 1), of="basic", sold=SOLD)
    story.did(Pause(), at(3, 11))
    story.did(Resume(), at(3, 21))
    made = billed(story, {(at(3, 1), at(3, 11)): 100, (at(3, 11), at(3, 21)): 5000, (at(3, 21), at(4, 1)): 200})
    assert shown(made.lines) == [
        ("basic.base", "fee", at(3, 1), at(3, 11), Decimal("10.00")),
        ("basic.calls", "usage", at(3, 1), at(4, 1), Decimal("3.00")),
        ("basic.base", "fee", at(3, 21), at(4, 1), Decimal("11.00")),
    ]


def test_a_period_that_is_paused_from_end_to_end_has_no_lines() -> None:
    story = begun(at(1, 1), of="basic", sold=SOLD)
    story.did(Pause(), at(2, 20))
    made = billed(story, {})
    assert not made.lines
    assert (made.total, made.state) == (Decimal(0), "paid")


def test_a_quantity_is_billed_for_the_time_in_which_it_held() -> None:
    story = begun(at(1, 1), of="pro", sold=SOLD)
    story.did(SetQuantity(price_key="seats", quantity=Decimal(12)), at(3, 11))
    lines = [line for line in billed(story, {}).lines if line.price_key == "seats"]
    assert [(line.quantity, line.amount) for line in lines] == [
        (Decimal(2), Decimal("2.00")),
        (Decimal(12), Decimal("25.20")),
    ]


def test_a_fee_of_an_add_on_counts_for_each_unit_while_it_is_held_and_its_usage_once() -> None:
    story = begun(at(1, 1), of="basic", sold=SOLD)
    story.did(SetAddon(addon_version_id="storage", quantity=3), at(3, 11))
    story.did(SetAddon(addon_version_id="storage", quantity=0), at(3, 21))
    made = billed(story, {(at(3, 1), at(4, 1)): 100, (at(3, 11), at(3, 21)): 40})
    lines = [line for line in made.lines if line.price_id.startswith("storage")]
    assert [(line.price_id, line.kind, line.quantity, line.amount) for line in lines] == [
        ("storage.space", "fee", Decimal(3), Decimal("30.00")),
        ("storage.calls", "usage", Decimal(40), Decimal("0.40")),
    ]
    assert sum(step.amount for step in lines[0].steps) == lines[0].exact_amount
    assert (lines[0].period_start, lines[0].period_end) == (at(3, 11), at(3, 21))


def test_a_subscription_that_ends_at_once_is_billed_up_to_then() -> None:
    story = begun(at(1, 1), of="basic", sold=SOLD)
    story.did(Cancel(), at(3, 11))
    subscription = held(story)
    assert (subscription.end_at, subscription.next_close_at) == (at(3, 11), at(2, 1))
    cut = replace(MARCH, end=at(3, 11))
    assert billed(story, {(at(3, 1), at(3, 11)): 100}, cut).total == Decimal("11.00")


def test_a_trial_moves_the_first_billing_period_to_its_end() -> None:
    story = begun(at(1, 1), of="basic", sold=SOLD, trial_end=at(1, 15))
    subscription = held(story)
    assert (subscription.start_at, subscription.closed_to, subscription.next_close_at) == (
        at(1, 15),
        at(1, 15),
        at(2, 15),
    )
    first = DuePeriod(subscription_id="sub_1", start=at(1, 15), end=at(2, 15))
    assert billed(story, {(at(1, 15), at(2, 15)): 100}, first).total == Decimal("32.00")


def test_usage_that_a_change_divides_has_a_place_for_each_part() -> None:
    story = begun(at(1, 1), of="basic", sold=SOLD)
    story.did(ChangePlan(plan_version_id="pro"), at(3, 11))
    subscription = held(story)
    parts = parts_of(subscription, plain(PRO), MARCH)
    places = [place_of(subscription, MARCH, part) for part in parts]
    assert [None if place is None else place.spans for place in places] == [
        None,
        ((at(3, 1), at(3, 11)),),
        None,
        None,
        ((at(3, 11), at(4, 1)),),
    ]
    assert meters_sold(subscription, plain(PRO)) == ["met_calls"]


YEARLY = plan("yearly", fee("base", "300", of="yearly", timing="in_arrears", cadence=YEAR), cadence=YEAR)
MIXED = plan("mixed", fee("base", "300", of="mixed", timing="in_arrears", cadence=YEAR))
AHEAD = plan("ahead", fee("base", "31", of="ahead"))
MANY = Sold(plans={each.id: each for each in (BASIC, PRO, YEARLY, MIXED, AHEAD)})


@pytest.mark.parametrize("name", ["yearly", "mixed", "ahead"])
def test_what_closings_cannot_bill_is_refused_before_it_is_sold(name: str) -> None:
    story = begun(at(1, 1), of="basic", sold=MANY)
    with pytest.raises(Invalid) as refused:
        amended(story.history, [asked(ChangePlan(plan_version_id=name))], MANY, at(3, 11))
    assert refused.value.code == "terms_not_billable"


def test_billing_periods_that_begin_anew_are_refused() -> None:
    story = begun(at(1, 1), of="basic", sold=SOLD)
    story.did(ChangePlan(plan_version_id="pro", reset_anchor=True), at(3, 11))
    with pytest.raises(Invalid) as refused:
        check_billable(fold(story.history), SOLD)
    assert refused.value.code == "terms_not_billable"
