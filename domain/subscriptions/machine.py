"""The states of a subscription and what leads from one to another: one table, which docs/subscriptions.md shows."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from domain.errors import Conflict
from schemas.subscription_life import SubscriptionEvent, SubscriptionState

# Where an undone cancellation leads: to the state that would be without it (a statechart's history state).
Target = SubscriptionState | Literal["before"]

_ROWS: dict[SubscriptionState, dict[SubscriptionEvent, Target]] = {
    "draft": {"activate": "scheduled", "change_terms": "draft", "cancel_at_once": "ended"},
    "scheduled": {
        "start": "active",
        "start_trial": "trialing",
        "change_terms": "scheduled",
        "move_trial_end": "scheduled",
        "cancel_later": "cancelled",
        "cancel_at_once": "ended",
    },
    "trialing": {
        "end_trial": "active",
        "change_terms": "trialing",
        "move_trial_end": "trialing",
        "cancel_later": "cancelled",
        "cancel_at_once": "ended",
    },
    "active": {
        "change_terms": "active",
        "pause": "paused",
        "payment_failed": "past_due",
        "cancel_later": "cancelled",
        "cancel_at_once": "ended",
    },
    "past_due": {
        "change_terms": "past_due",
        "pause": "paused",
        "payment_failed": "past_due",
        "payment_recovered": "active",
        "cancel_later": "cancelled",
        "cancel_at_once": "ended",
    },
    "paused": {
        "change_terms": "paused",
        "resume": "active",
        "resume_unpaid": "past_due",
        "payment_failed": "paused",
        "payment_recovered": "paused",
        "cancel_later": "cancelled",
        "cancel_at_once": "ended",
    },
    # Still running, up to its end: what happens to it, happens to the state that it would have without the cancellation.
    "cancelled": {
        "start": "cancelled",
        "start_trial": "cancelled",
        "end_trial": "cancelled",
        "change_terms": "cancelled",
        "move_trial_end": "cancelled",
        "pause": "cancelled",
        "resume": "cancelled",
        "resume_unpaid": "cancelled",
        "payment_failed": "cancelled",
        "payment_recovered": "cancelled",
        "cancel_later": "cancelled",
        "undo_cancel": "before",
        "cancel_at_once": "ended",
        "end_reached": "ended",
    },
    # Its last invoices may still fail to be paid.
    "ended": {"payment_failed": "ended", "payment_recovered": "ended"},
}

TRANSITIONS: Mapping[tuple[SubscriptionState, SubscriptionEvent], Target] = {
    (state, event): target for state, row in _ROWS.items() for event, target in row.items()
}


class Standing(Struct, frozen=True, kw_only=True):
    """`running` is the state without regard to a cancellation that is to come: the same as `state` where there is none."""

    state: SubscriptionState
    running: SubscriptionState
    payment_due: bool = False


DRAFT = Standing(state="draft", running="draft")


def transition(
    state: SubscriptionState, event: SubscriptionEvent, before: SubscriptionState = "active"
) -> SubscriptionState:
    """The state that `event` leads to. `before` is what an undone cancellation leads back to.

    Raises Conflict `transition_refused` where the table has no row.
    """
    target = TRANSITIONS.get((state, event))
    if target is None:
        raise Conflict(
            "transition_refused", f"a subscription that is {_words(state)} does not take the event {_words(event)}"
        )
    return before if target == "before" else target


def step(standing: Standing, event: SubscriptionEvent) -> Standing:
    """`transition` for a standing: while it is cancelled, the event must suit the state that runs on beneath, too."""
    state = transition(standing.state, event, standing.running)
    running = state
    if state == "cancelled":
        keeps_running = event == "cancel_later"
        running = standing.running if keeps_running else transition(standing.running, event)
    due = event == "payment_failed" or (standing.payment_due and event != "payment_recovered")
    return Standing(state=state, running=running, payment_due=due)


def _words(name: str) -> str:
    return name.replace("_", " ")
