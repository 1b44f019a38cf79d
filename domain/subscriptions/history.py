"""Adding to a history: a change is checked against all that was decided before, and recorded or refused whole."""

from datetime import datetime
from typing import NamedTuple

from msgspec.structs import replace

from domain.errors import Conflict, Invalid
from domain.periods import zone_of
from domain.plan_phases import trial_end
from domain.subscriptions.checks import check_instant, check_terms
from domain.subscriptions.fold import apply, fold
from domain.subscriptions.machine import step
from domain.subscriptions.service_periods import plan_period_end
from domain.subscriptions.standing import standing_at
from domain.subscriptions.terms import plan_at
from schemas.subscription_changes import (
    Activate,
    Cancel,
    Change,
    ChangePlan,
    ChangeRecord,
    ChangeRequest,
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
from schemas.subscription_life import Life, Sold, SubscriptionEvent

_EVENTS: dict[type[Change], SubscriptionEvent] = {
    Activate: "activate",
    ChangePlan: "change_terms",
    SetQuantity: "change_terms",
    SetAddon: "change_terms",
    Pause: "pause",
    Resume: "resume",
    SetTrialEnd: "move_trial_end",
    UndoCancel: "undo_cancel",
    PaymentFailed: "payment_failed",
    PaymentRecovered: "payment_recovered",
    Withdraw: "change_terms",
}
# These are done when they are told, and have no time of their own.
_TOLD = (UndoCancel, PaymentFailed, PaymentRecovered, Withdraw)
# These may not reach back behind an invoice.
_TERMS = (ChangePlan, SetQuantity, SetAddon, Pause, Resume, SetTrialEnd, Cancel)


class Recorded(NamedTuple):
    """`record` and the life after it; `repeated` when the request had been recorded before: then nothing is added."""

    record: ChangeRecord
    life: Life
    repeated: bool


def record_change(
    history: History, request: ChangeRequest, sold: Sold, now: datetime, billed_to: datetime | None = None
) -> Recorded:
    """The record that `request` adds to `history` at `now`, and the life it makes; nothing is done where it is refused.

    `billed_to` is where billing in arrears has got to: no change takes effect before it. Safe to repeat by the request's
    key. Two requests for one history are told apart by its revision: whoever stores the record keeps (subscription,
    revision) unique, and so gives racing changes one order.
    Raises Conflict `revision_mismatch`, `transition_refused`, `change_before_invoice`, `history_not_begun`; Invalid
    `idempotency_key_reused`, `change_before_start`, `end_before_start`; and what `domain.subscriptions.checks` raises.
    """
    repeated = next((record for record in history if record.key == request.key), None)
    if repeated is not None:
        _check_same(repeated, request)
        return Recorded(repeated, fold(history), repeated=True)
    revision = history[-1].revision if history else 0
    if request.expected_revision is not None and request.expected_revision != revision:
        raise Conflict("revision_mismatch", f"the subscription is at revision {revision} by now")
    # The clocks of two processes differ: the order of a history never does.
    made_at = max(now, history[-1].made_at) if history else now
    life = fold(history) if history else None
    change, effective_at = _resolved(life, request, sold, made_at)
    record = ChangeRecord(
        revision=revision + 1,
        change=change,
        made_by=request.made_by,
        made_at=made_at,
        effective_at=effective_at,
        key=request.key,
        reason=request.reason,
    )
    if life is not None:
        _check_time(life, request, effective_at, billed_to)
        _check_state(life, record)
    check_terms(life, record, sold)
    after = apply(life, record)
    standing_at(after, None)  # what is planned for later must still be possible
    return Recorded(record, after, repeated=False)


def _check_same(record: ChangeRecord, request: ChangeRequest) -> None:
    asked = request.change
    if isinstance(asked, Activate) and asked.trial_end_at is None and isinstance(record.change, Activate):
        asked = record.change  # the plan's trial was filled in
    same_time = not isinstance(request.when, datetime) or request.when == record.effective_at
    if asked != record.change or not same_time:
        raise Invalid("idempotency_key_reused", f"the key {request.key!r} was used for another change")


def _resolved(life: Life | None, request: ChangeRequest, sold: Sold, now: datetime) -> tuple[Change, datetime]:
    """The change with everything in it that the catalog decides, so that a history can be read without it."""
    change = request.change
    if isinstance(change, Create) != (life is None):
        if life is None:
            raise Conflict("history_not_begun", "a subscription begins with its creation")
        raise Conflict("transition_refused", "a subscription is created once")
    effective_at = _effective_at(life, request, sold, now)
    if isinstance(change, Create):
        zone_of(change.timezone)
    if isinstance(change, Activate) and change.trial_end_at is None and life is not None:
        phases = sold.plans[plan_at(life, effective_at).plan_version_id].phases
        change = replace(change, trial_end_at=trial_end(phases, effective_at, life.timezone))
    return change, effective_at


def _effective_at(life: Life | None, request: ChangeRequest, sold: Sold, now: datetime) -> datetime:
    second = now.replace(microsecond=0)
    if isinstance(request.when, datetime):
        if isinstance(request.change, (*_TOLD, Create)):
            raise Invalid("change_has_no_time", "this change is made when it is told, at no other time")
        check_instant(request.when, "when")
        return request.when
    if life is None or life.start_at is None:
        return second
    if request.when == "period_end":
        return plan_period_end(life, sold, second)
    # What is sold is in force from the start on, at the earliest; it may be called off before.
    return second if isinstance(request.change, (*_TOLD, Cancel)) else max(second, life.start_at)


def _check_time(life: Life, request: ChangeRequest, effective_at: datetime, billed_to: datetime | None) -> None:
    is_billed = billed_to is not None and life.cancellation is not None and life.cancellation.end_at <= billed_to
    if isinstance(request.change, UndoCancel) and is_billed:
        raise Conflict(
            "change_before_invoice", "invoices are made up to the end that was set: begin another subscription"
        )
    if not isinstance(request.change, _TERMS) or life.start_at is None:
        return
    if effective_at < life.start_at and isinstance(request.when, datetime):
        if isinstance(request.change, Cancel):
            raise Invalid("end_before_start", "a subscription ends after it starts")
        raise Invalid("change_before_start", "a change takes effect at the start of the subscription or later")
    if billed_to is not None and effective_at < billed_to:
        raise Conflict(
            "change_before_invoice", f"invoices are made up to {billed_to.isoformat()}: change it from there on"
        )


def _check_state(life: Life, record: ChangeRecord) -> None:
    now, at = record.made_at, record.effective_at
    change = record.change
    if isinstance(change, Cancel):
        at_once = life.start_at is None or at <= now
        event: SubscriptionEvent = "cancel_at_once" if at_once else "cancel_later"
    else:
        event = _EVENTS[type(change)]
    standing = standing_at(life, now)
    told = isinstance(change, (*_TOLD, Activate, SetTrialEnd)) or event == "cancel_later"
    if told or standing.state == "ended":
        step(standing, event)
    if not told:
        step(standing_at(life, at), event)
