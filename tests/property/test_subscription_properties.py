"""Random lives: what is stored is what the history tells, what it tells of an instant was true at it, and whatever is
changed and whenever it is settled, the same money is booked in the end.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import MeterstreamError
from domain.money import EXACT, ZERO, total
from domain.subscriptions.at import life_at, subscription_at
from domain.subscriptions.fees import charged_of, fee_of
from domain.subscriptions.fold import apply, fold
from domain.subscriptions.segments import segments
from domain.subscriptions.settlement import settle
from domain.subscriptions.standing import standing_at
from schemas.periods import BillingAnchor, Cadence
from schemas.plan_phases import Phase
from schemas.subscription_changes import (
    Cancel,
    Change,
    ChangePlan,
    ChangeRecord,
    ChangeTime,
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
from schemas.subscription_life import BookedFee, Sold
from tests.support.lives import PRO, STORAGE, YEAR, Story, at, begun, booked, fee, plan, seats

HOUR = timedelta(hours=1)
BEFORE = at(1, 1, year=2020)
RAMP = plan(
    "ramp",
    phases=[
        Phase(key="trial", duration=Cadence(unit="day", count=10), trial=True),
        Phase(key="one", duration=Cadence(unit="month", count=2), rate_cards=(fee("base", "9.99", of="ramp1"),)),
        Phase(
            key="two",
            rate_cards=(fee("base", "19.99", of="ramp2"), fee("support", "100.01", of="ramp2", cadence=YEAR)),
        ),
    ],
)
ARREARS = plan("arrears", fee("base", "33.33", of="arrears", timing="in_arrears"), seats("0.37", of="arrears"))
SOLD = Sold(plans={each.id: each for each in (PRO, RAMP, ARREARS)}, addons={"storage": STORAGE})

starts = st.builds(at, st.integers(1, 12), st.integers(1, 28), st.integers(0, 23))
changes: st.SearchStrategy[Change] = st.one_of(
    st.sampled_from(["pro", "ramp", "arrears"]).flatmap(
        lambda name: st.builds(
            ChangePlan, plan_version_id=st.just(name), keep_phase_clock=st.booleans(), reset_anchor=st.booleans()
        )
    ),
    st.builds(SetQuantity, price_key=st.just("seats"), quantity=st.integers(0, 9).map(Decimal)),
    st.builds(SetAddon, addon_version_id=st.just("storage"), quantity=st.integers(0, 3)),
    st.just(Pause()),
    st.builds(Pause, resumes_at=starts),
    st.just(Resume()),
    st.just(Cancel()),
    st.just(UndoCancel()),
    st.just(SetTrialEnd()),
    st.just(PaymentFailed(invoice_id="inv_1")),
    st.just(PaymentRecovered(invoice_id="inv_1")),
    st.builds(Withdraw, revision=st.integers(3, 8)),
)
# A change, how long after the one before it is asked for, and when it takes effect: at once, at period end, or then.
steps = st.lists(
    st.tuples(
        changes,
        st.integers(0, 40 * 24),
        st.one_of(st.just("now"), st.just("period_end"), st.integers(0, 60 * 24)),
    ),
    max_size=9,
)
begins = st.tuples(
    starts,
    st.sampled_from(["pro", "ramp", "arrears"]),
    st.sampled_from(["anniversary", "calendar"]),
    st.integers(0, 24),
)
Steps = list[tuple[Change, int, str | int]]
Begin = tuple[datetime, str, BillingAnchor, int]


def _begun(begin: Begin) -> Story:
    start, name, billing, lag_h = begin
    zone = "America/New_York"
    return begun(start, of=name, sold=SOLD, billing=billing, timezone=zone, now=start + lag_h * HOUR)


def _when(now: datetime, when: str | int) -> ChangeTime | datetime:
    if isinstance(when, int):
        return now + when * HOUR
    return "now" if when == "now" else "period_end"


def _live(story: Story, todo: Steps, now: datetime, done: list[BookedFee] | None = None) -> datetime:
    """Asks for each change; those that are refused do nothing. With `done`, what is due is booked now and then."""
    for number, (change, wait_h, when) in enumerate(todo):
        now += wait_h * HOUR
        if done is not None and number % 2:
            done += booked(_settle(story, done, now))
        before = story.history
        try:
            story.did(change, now, _when(now, when))
        except MeterstreamError:
            assert story.history == before
    return now


def _settle(story: Story, done: Sequence[BookedFee], now: datetime, since: datetime = BEFORE) -> list:  # type: ignore[type-arg]
    return settle(fold(story.history), SOLD, done, since, now)


@given(begins, steps, st.integers(0, 11))
def test_what_is_stored_is_what_the_history_tells_wherever_it_is_taken_up(
    begin: Begin, todo: Steps, taken_up: int
) -> None:
    story = _begun(begin)
    _live(story, todo, begin[0] + begin[3] * HOUR)
    history = msgspec.json.decode(msgspec.json.encode(story.history), type=tuple[ChangeRecord, ...])
    life = fold(history[: taken_up % len(history) + 1])
    life = msgspec.json.decode(msgspec.json.encode(life), type=type(life))
    for record in history[taken_up % len(history) + 1 :]:
        life = apply(life, record)
    assert life == fold(story.history)
    instant = begin[0] + 50 * 24 * HOUR
    assert life_at(life, SOLD, instant) == subscription_at(story.history, SOLD, instant)


@given(begins, steps)
def test_what_was_planned_and_known_comes_about_unless_it_is_changed(begin: Begin, todo: Steps) -> None:
    """The state as it was known when each change was made is the state as it is told in the end, for changes that do not
    reach back: the history only ever says more of what is to come.
    """
    story = _begun(begin)
    _live(story, todo, begin[0] + begin[3] * HOUR)
    for count in range(2, len(story.history)):
        known, following = fold(story.history[:count]), story.history[count]
        until = min(following.effective_at, following.made_at)
        for back_h in (1, 30, 300):
            instant = until.replace(microsecond=0) - back_h * HOUR
            told = subscription_at(story.history[: count + 1], SOLD, instant)
            assert told.state == standing_at(known, instant).state
            assert told.cards == life_at(known, SOLD, instant).cards


class _Model:
    """The same life kept the simple way: what holds now, changed in place."""

    def __init__(self) -> None:
        self.plan, self.seats, self.storage = "pro", Decimal(2), 0
        self.paused = self.due = self.cancelled = False

    def takes(self, change: Change) -> bool:
        if isinstance(change, ChangePlan):
            return change.plan_version_id != self.plan
        if isinstance(change, SetAddon):
            return change.quantity > 0 or self.storage > 0
        possible: dict[type[Change], bool] = {
            SetQuantity: self.plan != "ramp",
            Pause: not self.paused,
            Resume: self.paused,
            PaymentRecovered: self.due or self.paused,
            UndoCancel: self.cancelled,
        }
        return possible.get(type(change), True)

    def take(self, change: Change) -> None:
        match change:
            case ChangePlan():
                self.plan = change.plan_version_id
            case SetQuantity():
                self.seats = change.quantity
            case SetAddon():
                self.storage = change.quantity
            case Pause() | Resume():
                self.paused = isinstance(change, Pause)
            case PaymentFailed() | PaymentRecovered():
                self.due = isinstance(change, PaymentFailed)
            case Cancel() | UndoCancel():
                self.cancelled = isinstance(change, Cancel)

    def shown(self) -> tuple[object, ...]:
        running = "paused" if self.paused else "past_due" if self.due else "active"
        seats_held = None if self.plan == "ramp" else self.seats
        return ("cancelled" if self.cancelled else running, self.plan, seats_held, self.storage, self.paused)


now_changes = st.one_of(
    st.sampled_from([ChangePlan(plan_version_id=name) for name in ("pro", "ramp", "arrears")]),
    st.builds(SetQuantity, price_key=st.just("seats"), quantity=st.integers(0, 9).map(Decimal)),
    st.builds(SetAddon, addon_version_id=st.just("storage"), quantity=st.integers(0, 3)),
    st.sampled_from([Pause(), Resume()]),
    st.sampled_from([Cancel(), UndoCancel()]),
    st.sampled_from([PaymentFailed(invoice_id="inv_1"), PaymentRecovered(invoice_id="inv_1")]),
)


@given(st.lists(st.tuples(now_changes, st.integers(1, 500)), min_size=10, max_size=30))
def test_the_history_tells_of_each_instant_what_was_true_at_it(todo: list[tuple[Change, int]]) -> None:
    now = at(1, 1)
    story = begun(now, sold=SOLD, quantities={"seats": Decimal(2)})
    model = _Model()
    true: dict[datetime, tuple[object, ...]] = {}
    for change, wait_h in todo:
        now += wait_h * HOUR
        taken = model.takes(change)
        try:
            story.did(change, now, at(1, 1, year=2050) if isinstance(change, Cancel) else "now")
        except MeterstreamError:
            assert not taken
        else:
            assert taken
            model.take(change)
        true[now] = model.shown()
    for instant, expected in true.items():
        there = subscription_at(story.history, SOLD, instant)
        held = {each.card.price.key: each.quantity for each in there.cards}
        found = (there.state, there.plan_version_id, held.get("seats"), there.addons.get("storage", 0), there.paused)
        assert found == expected


@given(begins, steps)
def test_segments_of_each_card_tile_the_time_in_which_it_is_held(begin: Begin, todo: Steps) -> None:
    story = _begun(begin)
    _live(story, todo, begin[0])
    life = fold(story.history)
    start, end = begin[0] - HOUR, begin[0] + 500 * 24 * HOUR
    found = segments(life, SOLD, start, end)
    for segment in found:
        assert segment.whole.start <= segment.start < segment.end <= segment.whole.end
        assert segment.period_start <= segment.start
        assert segment.end <= segment.period_end
    by_card: dict[tuple[str, str | None], list[tuple[datetime, datetime]]] = {}
    for segment in found:
        key = (segment.held.card.price.id, segment.held.addon_version_id)
        by_card.setdefault(key, []).append((segment.start, segment.end))
    for spans in by_card.values():
        assert all(left[1] <= right[0] for left, right in pairwise(sorted(spans)))
    for instant in (begin[0], begin[0] + 77 * 24 * HOUR, begin[0] + 333 * 24 * HOUR):
        held = subscription_at(story.history, SOLD, instant).cards
        at_it = [segment.held for segment in found if segment.start <= instant < segment.end]
        assert sorted(each.card.price.id for each in held) == sorted(each.card.price.id for each in at_it)


@given(begins, steps, st.integers(1, 5))
def test_whenever_it_is_settled_the_fees_of_the_final_life_are_booked_in_the_end(
    begin: Begin, todo: Steps, runs: int
) -> None:
    story = _begun(begin)
    done: list[BookedFee] = []
    now = _live(story, todo, begin[0] + begin[3] * HOUR, done)
    for _ in range(runs):
        now += 45 * 24 * HOUR
        done += booked(_settle(story, done, now))
    assert _settle(story, done, now) == [], "once it is booked, there is nothing more to book"
    story_end = now + 400 * 24 * HOUR
    done += booked(_settle(story, done, story_end))
    lines = segments(fold(story.history), SOLD, BEFORE, story_end + 400 * 24 * HOUR)
    owed: dict[tuple[str, datetime], Decimal] = {}
    for segment in lines:
        due_at = segment.start if segment.held.card.timing == "in_advance" else segment.period_end
        end_at = fold(story.history).cancellation
        if end_at is not None and segment.held.card.timing == "in_arrears":
            due_at = min(due_at, end_at.end_at)
        if due_at <= story_end and charged_of(segment):
            key = (segment.held.card.price.id, segment.whole.start)
            owed[key] = EXACT.add(owed.get(key, ZERO), fee_of(segment))
    paid: dict[tuple[str, datetime], Decimal] = {}
    for each in done:
        key = (each.line.price_id, each.line.whole_start)
        paid[key] = EXACT.add(paid.get(key, ZERO), each.line.amount or ZERO)
    assert {key: amount for key, amount in paid.items() if amount} == {key: each for key, each in owed.items() if each}


@given(begins, steps)
def test_what_was_settled_up_to_an_instant_need_not_be_looked_at_from_further_back(begin: Begin, todo: Steps) -> None:
    story = _begun(begin)
    done: list[BookedFee] = []
    now = begin[0] + begin[3] * HOUR
    settled_to = BEFORE
    for change, wait_h, when in todo:
        now += wait_h * HOUR
        lines = _settle(story, done, now)
        assert _settle(story, done, now, settled_to) == lines
        done, settled_to = done + booked(lines), now
        try:
            story.did(change, now, _when(now, when))
        except MeterstreamError:
            continue


@given(begins, steps)
def test_no_more_goes_back_than_was_paid(begin: Begin, todo: Steps) -> None:
    story = _begun(begin)
    done: list[BookedFee] = []
    now = begin[0] + begin[3] * HOUR
    for change, wait_h, when in todo:
        now += wait_h * HOUR
        # Only every other line was paid.
        done += [
            BookedFee(line=line, paid=max(line.amount or ZERO, ZERO) if (len(done) + index) % 2 else ZERO)
            for index, line in enumerate(_settle(story, done, now))
        ]
        try:
            story.did(change, now, _when(now, when))
        except MeterstreamError:
            continue
    paid = total([each.paid for each in done])
    back = total([-each.line.amount for each in done if each.line.kind == "credit" and each.line.amount is not None])
    assert back <= paid
