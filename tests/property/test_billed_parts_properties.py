"""Billing a life: a plain one as its row is billed, and every other one for what it held, once."""

from datetime import datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.billed_parts import parts_of
from domain.closing import bill_period, due_periods
from domain.errors import MeterstreamError
from domain.money import total
from domain.plan_versions import version_of
from domain.subscriptions.fees import fee_of
from domain.subscriptions.fold import fold
from domain.subscriptions.holding import holding
from domain.subscriptions.segments import segments
from schemas.billing import BilledPart
from schemas.closing import ClosableSubscription, DuePeriod
from schemas.invoices import Invoice
from schemas.periods import BillingAnchor, Cadence
from schemas.plan_phases import Phase, RateCard
from schemas.plans import Plan
from schemas.prices import FlatPrice, GraduatedPrice, PerUnitPrice, PlanPrice, Price, Tier
from schemas.scope import Scope
from schemas.subscription_changes import Cancel, Change, ChangePlan, Pause, Resume, SetAddon, SetQuantity
from schemas.subscription_life import Sold
from tests.support.lives import Story, addon, at, begun, fee, plan, seats

HOUR = timedelta(hours=1)
ZONE = "America/New_York"
amounts = st.integers(0, 99_999).map(lambda cents: Decimal(cents) / 100)
models: st.SearchStrategy[Price] = st.one_of(
    st.builds(FlatPrice, amount=amounts),
    st.builds(PerUnitPrice, unit_amount=amounts, minimum_amount=st.none() | amounts),
    st.builds(
        lambda first, unit: GraduatedPrice(tiers=(Tier(up_to=Decimal(first)), Tier(unit_amount=unit))),
        st.integers(1, 50),
        amounts,
    ),
)
prices = st.lists(st.tuples(models, st.booleans(), st.integers(0, 9)), max_size=4)
starts = st.builds(at, st.integers(1, 12), st.integers(1, 28), st.integers(0, 23))
billings: st.SearchStrategy[BillingAnchor] = st.sampled_from(["anniversary", "calendar"])


def _plan(drawn: list[tuple[Price, bool, int]]) -> Plan:
    return Plan(
        id="pla_1",
        key="drawn",
        name="",
        currency="USD",
        version=1,
        version_id="plv_1",
        status="published",
        cadence="month",
        prices=tuple(
            PlanPrice(
                id=f"pri_{number}",
                key=f"key-{number}",
                currency="USD",
                price=model,
                meter_id=f"met_{number}" if metered else None,
                quantity=Decimal(quantity),
            )
            for number, (model, metered, quantity) in enumerate(drawn)
        ),
        entitlements=(),
        revision=1,
        created_at=at(1, 1),
        archived_at=None,
    )


def _held(story: Story, now: datetime) -> ClosableSubscription:
    row = holding(fold(story.history), story.sold, now)
    return ClosableSubscription(
        id="sub_1",
        scope=Scope("ten", "live"),
        customer_id="cus_1",
        plan_version_id=row.plan_version_id,
        billing=fold(story.history).billing,
        cadence="month",
        timezone=ZONE,
        start_at=row.trial_end_at or row.start_at,
        end_at=row.end_at,
        closed_to=row.closed_to,
        next_close_at=row.next_close_at,
        life=row.life,
        sold=story.sold,
    )


def _used(part: BilledPart) -> BilledPart:
    return part if part.price.meter_id is None else replace(part, quantity=Decimal(len(part.price.id) * 7))


def _invoice(held: ClosableSubscription, sold: Plan, period: DuePeriod) -> Invoice:
    parts = [_used(part) for part in parts_of(held, sold, period)]
    ids = [f"lin_{number}" for number in range(len(parts))]
    return bill_period(invoice_id="inv", line_ids=ids, held=held, currency="USD", parts=parts, period=period, cut=1)


@given(prices, starts, billings, st.none() | st.integers(1, 100 * 24))
def test_a_plain_life_is_billed_as_its_row_is(
    drawn: list[tuple[Price, bool, int]], start: datetime, billing: BillingAnchor, ends_h: int | None
) -> None:
    sold = _plan(drawn)
    story = begun(start, of="plv_1", sold=Sold(plans={"plv_1": version_of(sold)}), billing=billing, timezone=ZONE)
    if ends_h is not None:
        story.did(Cancel(), start, start + ends_h * HOUR)
    row = _held(story, start)
    assert row.life is None
    told = replace(row, life=fold(story.history))
    periods = due_periods(row, start + timedelta(days=120), 6)
    assert periods == due_periods(told, start + timedelta(days=120), 6)
    for period in periods:
        assert _invoice(told, sold, period) == _invoice(row, sold, period)


def _in_arrears(key: str, amount: str) -> RateCard:
    return fee(key, amount, of="ramp", timing="in_arrears")


BASIC = plan("basic", fee("base", "33.33", of="basic", timing="in_arrears"))
PRO = plan("pro", fee("base", "310.01", timing="in_arrears"), seats("0.37", timing="in_arrears", quantity=3))
RAMP = plan(
    "ramp",
    phases=[
        Phase(key="trial", duration=Cadence(unit="day", count=10), trial=True),
        Phase(key="low", duration=Cadence(unit="day", count=40), rate_cards=(_in_arrears("low", "9.99"),)),
        Phase(key="full", rate_cards=(_in_arrears("full", "19.99"), _in_arrears("support", "100.01"))),
    ],
)
STORAGE = addon("storage", fee("storage", "6.20", of="storage", timing="in_arrears"))
SOLD = Sold(plans={each.id: each for each in (BASIC, PRO, RAMP)}, addons={"storage": STORAGE})
changes: st.SearchStrategy[Change] = st.one_of(
    st.sampled_from(["basic", "pro", "ramp"]).map(lambda name: ChangePlan(plan_version_id=name)),
    st.integers(0, 3).map(lambda count: SetAddon(addon_version_id="storage", quantity=count)),
    st.integers(0, 9).map(lambda count: SetQuantity(price_key="seats", quantity=Decimal(count))),
    st.sampled_from([Pause(), Resume(), Cancel()]),
)


@given(
    starts,
    billings,
    st.sampled_from(["basic", "ramp"]),
    st.lists(st.tuples(changes, st.integers(1, 500)), max_size=6),
)
def test_a_life_is_billed_for_each_segment_of_its_fees_once(
    start: datetime, billing: BillingAnchor, name: str, todo: list[tuple[Change, int]]
) -> None:
    story = begun(start, of=name, sold=SOLD, billing=billing, timezone=ZONE)
    now = start
    for change, wait_h in todo:
        now += wait_h * HOUR
        try:
            story.did(change, now)
        except MeterstreamError:
            continue
    held = replace(_held(story, now), life=fold(story.history))
    until = start + timedelta(days=120)
    periods = due_periods(held, until, 6)
    made = [_invoice(held, _plan([]), period) for period in periods]
    life = fold(story.history)
    owed = [segment for period in periods for segment in segments(life, SOLD, period.start, period.end)]
    assert total([one.total for one in made]) == total([fee_of(segment) for segment in owed])
    assert all(line.period_start < line.period_end for one in made for line in one.lines)
