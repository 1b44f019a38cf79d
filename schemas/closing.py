"""Closing billing periods: what goes into and out of the workflow and its activities, and what they read."""

from datetime import datetime

from msgspec import Struct

from schemas.periods import BillingAnchor
from schemas.plans import PlanCadence
from schemas.scope import Scope
from schemas.subscription_life import Life, Sold


class Cutoff(Struct, frozen=True, kw_only=True):
    """All blocks with a cut below `cut`, all done; every event answered 202 before `as_of` is in them (protocol 10, 26)."""

    cut: int
    as_of: datetime


class CutoffTaken(Struct, frozen=True, kw_only=True):
    """`cutoff` is None when nothing is due (`wait_s` 0), or when the cut may be raised only after `wait_s`."""

    cutoff: Cutoff | None = None
    wait_s: float = 0.0


class DuePeriod(Struct, frozen=True, kw_only=True):
    """A period of a subscription that can be billed: `[start, end)`."""

    subscription_id: str
    start: datetime
    end: datetime


class DueQuestion(Struct, frozen=True, kw_only=True):
    """Due periods at `cutoff` of the subscriptions whose ids follow `after`."""

    cutoff: Cutoff
    after: str = ""


class DuePage(Struct, frozen=True, kw_only=True):
    """Due periods, in order within each subscription. All those of subscriptions up to the id `after` are listed; of
    `partial`, the last one, more are due than fit. `is_last`: no other subscription is due.
    """

    periods: tuple[DuePeriod, ...]
    after: str
    partial: str = ""
    is_last: bool


class ClosingBatch(Struct, frozen=True, kw_only=True):
    """Periods to close at one cutoff; those of one subscription follow one another."""

    cutoff: Cutoff
    periods: tuple[DuePeriod, ...]


class BatchClosed(Struct, frozen=True, kw_only=True):
    """`billed` now, `already` billed before; `stopped` are the subscriptions that did not get through their periods."""

    billed: int = 0
    already: int = 0
    stopped: tuple[str, ...] = ()


class FailedPeriod(Struct, frozen=True, kw_only=True):
    """Why a period was not closed; `code` is stable."""

    subscription_id: str
    start: datetime
    end: datetime
    code: str
    message: str


class ClosingProgress(Struct, frozen=True, kw_only=True):
    """How far a run has got: what it goes on from. The default begins one."""

    cutoff: Cutoff | None = None
    after: str = ""
    billed: int = 0
    stopped: int = 0


class ClosingReport(Struct, frozen=True, kw_only=True):
    """What a run did. `cut` is None when nothing was due; `stopped` counts subscriptions that failed."""

    cut: int | None
    billed: int
    stopped: int


class ClosableSubscription(Struct, frozen=True, kw_only=True):
    """What decides which periods of a subscription are due, and how they are billed.

    Periods count from `start_at`: of a subscription with a trial, its end. `life` is None where one plan version was held
    unchanged; else it is billed as its life says, from what `sold` has of it. `terms_revision` is the last change known.
    """

    id: str
    scope: Scope
    customer_id: str
    plan_version_id: str
    billing: BillingAnchor
    cadence: PlanCadence
    timezone: str
    start_at: datetime
    end_at: datetime | None
    closed_to: datetime
    next_close_at: datetime | None
    terms_revision: int = 0
    life: Life | None = None
    sold: Sold | None = None
