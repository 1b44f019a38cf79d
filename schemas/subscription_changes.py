"""What can be done to a subscription, and the append-only history of what was done."""

from datetime import datetime
from decimal import Decimal
from typing import Literal

from msgspec import Struct

from schemas.periods import BillingAnchor

ChangeTime = Literal["now", "period_end"]


class Create(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="create"):
    """A draft: who is to hold which plan version. `quantities` are units by the key of a fee."""

    customer_id: str
    plan_version_id: str
    currency: str
    billing: BillingAnchor = "anniversary"
    timezone: str = "UTC"
    quantities: dict[str, Decimal] = {}


class Activate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="activate"):
    """The draft is sold; it starts when this takes effect, which may be past or to come.

    `trial_end_at` overrides the plan's trial; at the start itself, there is none.
    """

    trial_end_at: datetime | None = None


class ChangePlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="change_plan"):
    """Another plan, or another version of it. Quantities of fees with the same key stay.

    The new plan begins with its first phase that is no trial; `keep_phase_clock` counts its phases from where the plan
    before counted them. `reset_anchor` begins new billing periods where it takes effect.
    """

    plan_version_id: str
    keep_phase_clock: bool = False
    reset_anchor: bool = False


class SetQuantity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="set_quantity"):
    """Units of the fee with this key."""

    price_key: str
    quantity: Decimal


class SetAddon(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="set_addon"):
    """How many of an add-on are held; 0 takes it off."""

    addon_version_id: str
    quantity: int


class Pause(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="pause"):
    """Nothing is charged until it is resumed, at `resumes_at` by itself."""

    resumes_at: datetime | None = None


class Resume(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="resume"):
    """The end of a pause."""


class SetTrialEnd(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="set_trial_end"):
    """The trial ends when this takes effect: sooner or later than it would."""


class Cancel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="cancel"):
    """The subscription ends when this takes effect. It replaces an end that was set before."""


class UndoCancel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="undo_cancel"):
    """The end that was set is taken back."""


class PaymentFailed(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="payment_failed"
):
    invoice_id: str


class PaymentRecovered(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="payment_recovered"
):
    invoice_id: str


class Withdraw(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="withdraw"):
    """Takes back a change of terms, named by its revision, that has not taken effect yet."""

    revision: int


Change = (
    Create
    | Activate
    | ChangePlan
    | SetQuantity
    | SetAddon
    | Pause
    | Resume
    | SetTrialEnd
    | Cancel
    | UndoCancel
    | PaymentFailed
    | PaymentRecovered
    | Withdraw
)


class ChangeRecord(Struct, frozen=True, kw_only=True):
    """One line of the audit history: what, by whom, when it was made and when it takes effect, and why.

    `revision` counts 1, 2, 3, ... in the order in which changes were made; `key` is the idempotency key of the request.
    """

    revision: int
    change: Change
    made_by: str
    made_at: datetime
    effective_at: datetime
    key: str
    reason: str = ""


class ChangeRequest(Struct, frozen=True, kw_only=True):
    """A change as somebody asks for it. `when`: at once, at the end of the running billing period, or at an instant.

    `expected_revision` is the revision that was read before; None takes whatever there is.
    """

    change: Change
    when: ChangeTime | datetime = "now"
    made_by: str
    key: str
    reason: str = ""
    expected_revision: int | None = None


History = tuple[ChangeRecord, ...]
