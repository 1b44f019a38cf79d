"""Replaying a life through the table of transitions: the state at an instant, and whether a life is possible at all."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from domain.subscriptions.machine import DRAFT, Standing, step
from domain.subscriptions.terms import BEFORE_START
from schemas.subscription_life import Life, SubscriptionEvent

# What happens at one instant happens in this order: a period of something ends before the next one begins, and what
# people did comes in the order in which they did it.
_START, _TRIAL_END, _RESUME, _DONE, _END = range(5)
_PAYMENTS = ("payment_failed", "payment_recovered")


class Happening(NamedTuple):
    """Sorted by time, then by rank, then by revision."""

    at: datetime
    rank: int
    by: int
    event: SubscriptionEvent
    invoice_id: str = ""


def happenings(life: Life) -> list[Happening]:
    """Everything that moves the state, in order: what was done, and what comes with time."""
    return sorted(_happenings(life))


def _happenings(life: Life) -> Iterator[Happening]:
    if life.start_at is not None and life.trial_end_at is not None:
        has_trial = life.trial_end_at > life.start_at
        yield Happening(BEFORE_START, _START, 1, "activate")
        yield Happening(life.start_at, _START, 1, "start_trial" if has_trial else "start")
        if has_trial:
            yield Happening(life.trial_end_at, _TRIAL_END, 1, "end_trial")
    for pause in life.pauses:
        yield Happening(pause.start, _DONE, pause.by, "pause")
        if pause.end is not None:
            yield Happening(pause.end, _RESUME, pause.resumed_by or pause.by, "resume")
    for mark in life.marks:
        yield Happening(mark.at, _DONE, mark.by, mark.event, mark.invoice_id)
    if life.cancellation is not None and not life.cancellation.at_once:
        yield Happening(life.cancellation.end_at, _END, life.cancellation.by, "end_reached")


def standing_at(life: Life, instant: datetime | None) -> Standing:
    """The state at `instant`, after everything that happens at it; None: after everything.

    What was to happen after the end lapses. Raises Conflict `transition_refused` for a life that cannot be: never for
    one that `domain.subscriptions.history` made.
    """
    standing = DRAFT
    due: set[str] = set()
    for happening in happenings(life):
        if instant is not None and happening.at > instant:
            break
        if standing.state == "ended" and happening.event not in _PAYMENTS:
            continue
        event = happening.event
        if event == "payment_failed":
            due.add(happening.invoice_id)
        elif event == "payment_recovered":
            due.discard(happening.invoice_id)
            if due:  # another invoice is still to be paid
                continue
        elif event == "resume" and standing.payment_due:
            event = "resume_unpaid"
        standing = step(standing, event)
    return standing
