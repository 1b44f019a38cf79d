"""What a history of changes comes to: the states of a subscription, its terms over time, and what there is to bill.

`by` is the revision of the change that something stands there for.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Literal

from msgspec import Struct

from schemas.addons import AddonVersion
from schemas.periods import BillingAnchor, Period
from schemas.plan_phases import PlanVersion, RateCard

SubscriptionState = Literal["draft", "scheduled", "trialing", "active", "past_due", "paused", "cancelled", "ended"]
SubscriptionEvent = Literal[
    "activate",
    "start",
    "start_trial",
    "end_trial",
    "change_terms",
    "move_trial_end",
    "pause",
    "resume",
    "resume_unpaid",
    "payment_failed",
    "payment_recovered",
    "cancel_at_once",
    "cancel_later",
    "undo_cancel",
    "end_reached",
]


class PlanFrom(Struct, frozen=True, kw_only=True):
    """The plan version from `at` on. `at` None: from the start on, whenever that is."""

    at: datetime | None
    plan_version_id: str
    keep_phase_clock: bool
    reset_anchor: bool
    by: int


class QuantityFrom(Struct, frozen=True, kw_only=True):
    at: datetime | None
    price_key: str
    quantity: Decimal
    by: int


class AddonFrom(Struct, frozen=True, kw_only=True):
    at: datetime | None
    addon_version_id: str
    quantity: int
    by: int


class PauseSpan(Struct, frozen=True, kw_only=True):
    """`[start, end)`; `end` None: until it is resumed. `resumed_by` is the change that moved it from `resumes_at`."""

    start: datetime
    end: datetime | None
    resumes_at: datetime | None
    by: int
    resumed_by: int | None = None


class Cancellation(Struct, frozen=True, kw_only=True):
    """`at_once` when it took effect no later than it was made."""

    end_at: datetime
    at_once: bool
    by: int


class Mark(Struct, frozen=True, kw_only=True):
    """Something that happened to the state at `at`, in the order in which it was made; of a payment, for which invoice."""

    at: datetime
    event: SubscriptionEvent
    by: int
    invoice_id: str = ""


class Life(Struct, frozen=True, kw_only=True):
    """A history folded: all terms of a subscription over time. It is what is stored beside the history.

    `start_at` is None for a draft, and `trial_end_at` where no trial was set by hand: the plan's trial holds then.
    """

    customer_id: str
    currency: str
    billing: BillingAnchor
    timezone: str
    revision: int
    created_at: datetime
    start_at: datetime | None = None
    activated_at: datetime | None = None
    trial_end_at: datetime | None = None
    plans: tuple[PlanFrom, ...]
    quantities: tuple[QuantityFrom, ...] = ()
    addons: tuple[AddonFrom, ...] = ()
    pauses: tuple[PauseSpan, ...] = ()
    cancellation: Cancellation | None = None
    marks: tuple[Mark, ...] = ()


class Sold(Struct, frozen=True, kw_only=True):
    """The catalog that histories refer to: versions of plans and of add-ons by id."""

    plans: Mapping[str, PlanVersion]
    addons: Mapping[str, AddonVersion] = {}


class HeldCard(Struct, frozen=True, kw_only=True):
    """A rate card as a subscription holds it. `quantity` units of a fee, `times` for each unit of its add-on (else 1).

    `by` are the changes that it stands there for: the plan or add-on first, then the one that set its quantity.
    """

    card: RateCard
    quantity: Decimal
    times: int
    plan_version_id: str
    phase_key: str
    addon_version_id: str | None
    by: tuple[int, ...]


class SubscriptionAt(Struct, frozen=True, kw_only=True):
    """A subscription at an instant. `addons` are quantities by version id; `trial_end_at` None outside of a trial."""

    state: SubscriptionState
    plan_version_id: str
    phase_key: str
    cards: tuple[HeldCard, ...]
    addons: dict[str, int]
    payment_due: bool
    paused: bool
    resumes_at: datetime | None
    trial_end_at: datetime | None
    end_at: datetime | None
    revision: int


class Segment(Struct, frozen=True, kw_only=True):
    """A span of a billing period in which one rate card held unchanged. `[start, end)` lies within `whole`.

    `whole` is the full period that the card's amount is for: of a stub, the period that would have been. `period_start`
    and `period_end` bound what of it can be billed (a stub begins at the start of the subscription). In a `trial` and
    while `paused`, nothing is charged.
    """

    held: HeldCard
    whole: Period
    period_start: datetime
    period_end: datetime
    start: datetime
    end: datetime
    trial: bool
    paused: bool


FeeLineKind = Literal["charge", "credit", "usage"]


class FeeLine(Struct, frozen=True, kw_only=True):
    """A line of a rate card for `[start, end)` of the period `[whole_start, whole_end)`, whose full fee is `whole_amount`.

    Credits are negative. `amount` is None for usage, which is known when it has ended.
    """

    kind: FeeLineKind
    price_id: str
    price_key: str
    plan_version_id: str
    addon_version_id: str | None
    quantity: Decimal
    whole_start: datetime
    whole_end: datetime
    whole_amount: Decimal
    start: datetime
    end: datetime
    amount: Decimal | None
    due_at: datetime


class BookedFee(Struct, frozen=True, kw_only=True):
    """A line that is on an invoice, with what was paid for it (what an open invoice asks for it counts, too)."""

    line: FeeLine
    paid: Decimal


class ChangePreview(Struct, frozen=True, kw_only=True):
    """What a change would do. `due_now` sums the lines that are due when it is made, `total` all that are known."""

    effective_at: datetime
    state_before: SubscriptionState
    state_after: SubscriptionState
    currency: str
    lines: tuple[FeeLine, ...]
    due_now: Decimal
    total: Decimal
