"""The table of transitions: what it says, and that the document says the same."""

import re
from pathlib import Path
from typing import get_args

import pytest

from domain.errors import Conflict
from domain.subscriptions.machine import DRAFT, TRANSITIONS, Standing, step, transition
from schemas.subscription_life import SubscriptionEvent, SubscriptionState

PAGE = Path(__file__).parents[2] / "docs" / "subscriptions.md"
ROW = re.compile(r"^\| `(\w+)` \| `(\w+)` \| (?:`(\w+)`|(the state before)) \|", re.MULTILINE)


def test_the_document_shows_the_table_of_the_code() -> None:
    shown = {(state, event): target or "before" for state, event, target, _ in ROW.findall(PAGE.read_text())}
    assert shown == dict(TRANSITIONS)


def test_every_event_leads_somewhere_and_every_state_is_reached() -> None:
    assert {event for _, event in TRANSITIONS} == set(get_args(SubscriptionEvent))
    assert {"draft", *TRANSITIONS.values()} - {"before"} == set(get_args(SubscriptionState))


def test_what_has_ended_stays_ended() -> None:
    assert {target for (state, _), target in TRANSITIONS.items() if state == "ended"} == {"ended"}


def test_everything_but_what_has_ended_can_be_ended_at_once() -> None:
    for state in get_args(SubscriptionState):
        if state != "ended":
            assert transition(state, "cancel_at_once") == "ended"


def test_a_cancelled_subscription_takes_only_what_the_state_beneath_takes() -> None:
    for state, event in TRANSITIONS:
        if state != "cancelled" or event in {"cancel_later", "undo_cancel", "cancel_at_once", "end_reached"}:
            continue
        for running in get_args(SubscriptionState):
            if running in {"cancelled", "ended", "draft"}:
                continue
            standing = Standing(state="cancelled", running=running)
            if (running, event) in TRANSITIONS:
                assert step(standing, event).running == TRANSITIONS[running, event]
            else:
                with pytest.raises(Conflict):
                    step(standing, event)


def test_an_undone_cancellation_leads_to_where_it_would_be_without_it() -> None:
    standing = DRAFT
    for event in ("activate", "start_trial", "cancel_later", "end_trial", "payment_failed", "undo_cancel"):
        standing = step(standing, event)
    assert standing == Standing(state="past_due", running="past_due", payment_due=True)


def test_a_refusal_says_the_state_and_the_event() -> None:
    with pytest.raises(Conflict, match="past due does not take the event end trial") as refused:
        transition("past_due", "end_trial")
    assert refused.value.code == "transition_refused"
