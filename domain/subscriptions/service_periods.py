"""Billing periods of a subscription's rate cards: each cadence counts its own, all from one anchor."""

from datetime import UTC, datetime
from typing import NamedTuple

from domain.periods import billing_period_at, boundary
from domain.subscriptions.terms import in_trial, paid_from, plan_at
from schemas.periods import Cadence, Period
from schemas.subscription_life import Life, Sold

# The trial and the stub come before the first whole period, which has index 0.
_TRIAL = -2


class ServicePeriod(NamedTuple):
    """`[start, end)` can be billed; `whole` is the full period that an amount is for: of a stub, the one it ends."""

    start: datetime
    end: datetime
    whole: Period


def service_period(life: Life, cadence: Cadence, instant: datetime) -> ServicePeriod:
    """The period of `cadence` that holds `instant`; the trial is one period of every cadence.

    It ends early where new billing periods begin.

    The subscription is activated and `instant` is not before its start: else ValueError.
    """
    plan = plan_at(life, instant)
    anchor = paid_from(life, plan)
    if life.start_at is None or anchor is None or instant < life.start_at:
        raise ValueError("there are no billing periods before the start of a subscription")
    if in_trial(life, instant):
        whole = Period(start=life.start_at.astimezone(UTC), end=anchor.astimezone(UTC), index=_TRIAL)
        return ServicePeriod(whole.start, whole.end, whole)
    period = billing_period_at(anchor, life.billing, cadence, life.timezone, instant)
    whole = period
    if period.index < 0:
        before = boundary(period.end, cadence, life.timezone, -1)
        whole = Period(start=before, end=period.end, index=period.index)
    resets = [each.at for each in life.plans if each.reset_anchor and each.at is not None and each.at > instant]
    return ServicePeriod(period.start, min([period.end, *resets]), whole)


def plan_period_end(life: Life, sold: Sold, instant: datetime) -> datetime:
    """The end of the plan's billing period that holds `instant`; before the start, of the first one."""
    at = instant if life.start_at is None else max(instant, life.start_at)
    return service_period(life, sold.plans[plan_at(life, at).plan_version_id].cadence, at).end
