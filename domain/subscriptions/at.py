"""A subscription at an instant, read back from its history."""

from datetime import datetime

from domain.subscriptions.fold import fold
from domain.subscriptions.standing import standing_at
from domain.subscriptions.terms import addons_at, cards_at, in_trial, pause_at, phase_at, plan_at
from schemas.subscription_changes import History
from schemas.subscription_life import Life, Sold, SubscriptionAt


def subscription_at(
    history: History, sold: Sold, instant: datetime, known_at: datetime | None = None
) -> SubscriptionAt:
    """What held at `instant`, by all that is recorded; with `known_at`, by what was recorded until then.

    Each rate card says by which changes it stands there. Raises Conflict `history_not_begun`.
    """
    return life_at(fold(history, known_at), sold, instant)


def life_at(life: Life, sold: Sold, instant: datetime) -> SubscriptionAt:
    """The same from the life that is stored."""
    standing = standing_at(life, instant)
    pause = pause_at(life, instant)
    ended = standing.state == "ended"
    return SubscriptionAt(
        state=standing.state,
        plan_version_id=plan_at(life, instant).plan_version_id,
        phase_key=phase_at(life, sold, instant).key,
        cards=() if ended else cards_at(life, sold, instant),
        addons={} if ended else {version_id: each.quantity for version_id, each in addons_at(life, instant).items()},
        payment_due=standing.payment_due,
        paused=pause is not None and not ended,
        resumes_at=None if pause is None or ended else pause.end,
        trial_end_at=life.trial_end_at if in_trial(life, instant) and not ended else None,
        end_at=None if life.cancellation is None else life.cancellation.end_at,
        revision=life.revision,
    )
