"""The fold of a history: one record after another makes the terms of a subscription (`Life`)."""

from collections.abc import Iterable
from datetime import datetime

from msgspec.structs import replace

from domain.errors import Conflict
from domain.subscriptions.terms import in_order
from schemas.subscription_changes import (
    Activate,
    Cancel,
    ChangePlan,
    ChangeRecord,
    Create,
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
from schemas.subscription_life import (
    AddonFrom,
    Cancellation,
    Life,
    Mark,
    PauseSpan,
    PlanFrom,
    QuantityFrom,
    SubscriptionEvent,
)


def fold(history: Iterable[ChangeRecord], known_at: datetime | None = None) -> Life:
    """The life that a history tells; with `known_at`, as it was known then. A function of its arguments only.

    Raises Conflict `history_not_begun` for nothing, or for what does not begin with its creation.
    """
    life: Life | None = None
    for record in history:
        if known_at is None or record.made_at <= known_at:
            life = apply(life, record)
    if life is None:
        raise Conflict("history_not_begun", "a subscription begins with its creation")
    return life


def apply(life: Life | None, record: ChangeRecord) -> Life:
    """The life after one more record of it: what a store keeps, so that it need not read the whole history.

    It checks nothing: `domain.subscriptions.history` makes records that can be applied.
    """
    if isinstance(record.change, Create):
        return _created(record.change, record)
    if life is None:
        raise Conflict("history_not_begun", "a subscription begins with its creation")
    return replace(_applied(life, record), revision=record.revision)


def _created(change: Create, record: ChangeRecord) -> Life:
    return Life(
        customer_id=change.customer_id,
        currency=change.currency,
        billing=change.billing,
        timezone=change.timezone,
        revision=record.revision,
        created_at=record.made_at,
        plans=(
            PlanFrom(
                at=None,
                plan_version_id=change.plan_version_id,
                keep_phase_clock=False,
                reset_anchor=False,
                by=record.revision,
            ),
        ),
        quantities=tuple(
            QuantityFrom(at=None, price_key=key, quantity=quantity, by=record.revision)
            for key, quantity in change.quantities.items()
        ),
    )


def _applied(life: Life, record: ChangeRecord) -> Life:
    change = record.change
    if isinstance(change, Create):
        raise TypeError("a creation is the first record of a history")
    if isinstance(change, ChangePlan | SetQuantity | SetAddon):
        return _terms_changed(life, change, record)
    if isinstance(change, Pause | Resume):
        return replace(life, pauses=_pauses(life, change, record))
    if isinstance(change, Withdraw):
        return _withdrawn(life, change.revision)
    return _moved(life, change, record)


_Moving = Activate | SetTrialEnd | Cancel | UndoCancel | PaymentFailed | PaymentRecovered


def _moved(life: Life, change: _Moving, record: ChangeRecord) -> Life:
    match change:
        case Activate():
            return _activated(life, change, record)
        case SetTrialEnd():
            return replace(life, trial_end_at=record.effective_at)
        case Cancel():
            return _cancelled(life, record)
        case UndoCancel():
            return replace(_marked(life, "undo_cancel", record), cancellation=None)
        case PaymentFailed():
            return _marked(life, "payment_failed", record, change.invoice_id)
        case PaymentRecovered():
            return _marked(life, "payment_recovered", record, change.invoice_id)


def _pauses(life: Life, change: Pause | Resume, record: ChangeRecord) -> tuple[PauseSpan, ...]:
    if isinstance(change, Resume):
        return tuple(_resumed(pause, record) for pause in life.pauses)
    until = change.resumes_at
    span = PauseSpan(start=record.effective_at, end=until, resumes_at=until, by=record.revision)
    return tuple(sorted([*life.pauses, span], key=_start))


def _start(pause: PauseSpan) -> datetime:
    return pause.start


def _activated(life: Life, change: Activate, record: ChangeRecord) -> Life:
    return replace(
        life,
        start_at=record.effective_at,
        activated_at=record.made_at,
        trial_end_at=change.trial_end_at or record.effective_at,
    )


def _terms_changed(life: Life, change: ChangePlan | SetQuantity | SetAddon, record: ChangeRecord) -> Life:
    """A draft has no time yet: what changes it holds from the start on."""
    at = None if life.start_at is None else record.effective_at
    by = record.revision
    if isinstance(change, ChangePlan):
        plan = PlanFrom(
            at=at,
            plan_version_id=change.plan_version_id,
            keep_phase_clock=change.keep_phase_clock,
            reset_anchor=change.reset_anchor,
            by=by,
        )
        return replace(life, plans=in_order([*life.plans, plan]))
    if isinstance(change, SetQuantity):
        quantity = QuantityFrom(at=at, price_key=change.price_key, quantity=change.quantity, by=by)
        return replace(life, quantities=in_order([*life.quantities, quantity]))
    addon = AddonFrom(at=at, addon_version_id=change.addon_version_id, quantity=change.quantity, by=by)
    return replace(life, addons=in_order([*life.addons, addon]))


def _resumed(pause: PauseSpan, record: ChangeRecord) -> PauseSpan:
    """The pause that holds at the instant, ended there."""
    holds = pause.start <= record.effective_at and (pause.end is None or record.effective_at < pause.end)
    return replace(pause, end=record.effective_at, resumed_by=record.revision) if holds else pause


def _cancelled(life: Life, record: ChangeRecord) -> Life:
    """A draft, or an end that is not to come, ends at once; else it is told now and comes later."""
    at_once = life.start_at is None or record.effective_at <= record.made_at
    mark = Mark(
        at=record.effective_at if at_once else _second(record.made_at),
        event="cancel_at_once" if at_once else "cancel_later",
        by=record.revision,
    )
    cancellation = Cancellation(end_at=record.effective_at, at_once=at_once, by=record.revision)
    return replace(life, cancellation=cancellation, marks=(*life.marks, mark))


def _marked(life: Life, event: SubscriptionEvent, record: ChangeRecord, invoice_id: str = "") -> Life:
    mark = Mark(at=_second(record.made_at), event=event, by=record.revision, invoice_id=invoice_id)
    return replace(life, marks=(*life.marks, mark))


def _second(at: datetime) -> datetime:
    """States change on whole seconds, as terms do: what is done within one second keeps the order of its revisions."""
    return at.replace(microsecond=0)


def _withdrawn(life: Life, revision: int) -> Life:
    """Without what that change set; a pause that it was to end goes on as it was."""
    return replace(
        life,
        plans=tuple(each for each in life.plans if each.by != revision),
        quantities=tuple(each for each in life.quantities if each.by != revision),
        addons=tuple(each for each in life.addons if each.by != revision),
        pauses=tuple(
            replace(each, end=each.resumes_at, resumed_by=None) if each.resumed_by == revision else each
            for each in life.pauses
            if each.by != revision
        ),
    )
