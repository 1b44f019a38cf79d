"""What of a life stands in the row of a subscription: what closings and lists look for without reading its history."""

from datetime import datetime

from msgspec import Struct

from domain.subscriptions.periods import period_anchor, period_to_close
from domain.subscriptions.standing import standing_at
from domain.subscriptions.terms import plan_at
from schemas.subscription_life import Life, Sold, SubscriptionState


class Holding(Struct, frozen=True, kw_only=True):
    """`closed_to` is where billing has got to, `next_close_at` the end of the period that is closed next; periods count
    from `anchor_at`. `life` is None where the other fields say all there is.
    """

    plan_version_id: str
    state: SubscriptionState
    start_at: datetime
    end_at: datetime | None
    trial_end_at: datetime | None
    anchor_at: datetime
    closed_to: datetime
    next_close_at: datetime | None
    life: Life | None
    terms_revision: int


def paid_since(life: Life) -> datetime:
    """Where billing begins: the end of the trial. The life is activated, else ValueError."""
    if life.start_at is None or life.trial_end_at is None:
        raise ValueError("a draft is not billed")
    return max(life.start_at, life.trial_end_at)


def holding(life: Life, sold: Sold, now: datetime, closed_to: datetime | None = None) -> Holding:
    """The row of an activated life at `now`. `closed_to` is None while no period is closed."""
    since = paid_since(life)
    start_at = life.start_at or since
    # What is called off before its start ends there.
    end_at = None if life.cancellation is None else max(life.cancellation.end_at, start_at)
    plan = plan_at(life, now).plan_version_id
    cadence = sold.plans[plan].cadence  # the same for all plans that it ever holds (`check_billable`)
    closed_to = since if closed_to is None else closed_to
    left = period_to_close(
        start_at=since,
        end_at=end_at,
        billing=life.billing,
        cadence=cadence,
        zone=life.timezone,
        closed_to=closed_to,
    )
    return Holding(
        plan_version_id=plan,
        state=standing_at(life, now).state,
        start_at=start_at,
        end_at=end_at,
        trial_end_at=None if since == start_at else since,
        anchor_at=period_anchor(since, life.billing, cadence, life.timezone),
        closed_to=closed_to,
        next_close_at=None if left is None else left.end,
        life=None if is_plain(life) and len(sold.plans[plan].phases) == 1 else life,
        terms_revision=life.revision,
    )


def is_plain(life: Life) -> bool:
    """Whether it holds one plan version as it is sold from its start on, perhaps up to an end: a row can say that, if the
    version has one phase.
    """
    others = len(life.plans) > 1 or bool(life.quantities or life.addons or life.pauses)
    later = all(mark.event in ("cancel_later", "undo_cancel") for mark in life.marks)
    return not others and later and life.start_at is not None and life.trial_end_at == life.start_at
