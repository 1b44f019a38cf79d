"""What a client sends to change a subscription. `when` is `now`, `period_end`, or an RFC 3339 instant."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from msgspec import Meta, Struct

When = Annotated[
    str,
    Meta(
        description="`now`, `period_end` (of the running billing period), or an RFC 3339 instant",
        examples=["now", "period_end", "2027-01-01T00:00:00Z"],
    ),
]
Units = Annotated[int, Meta(ge=0, le=1_000_000)]
Reason = Annotated[str, Meta(max_length=1000, description="Why, for the history.", examples=["they grew"])]


class CancelSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The subscription ends then. With `undo`, an end that was set and has not come is taken back."""

    when: When = "period_end"
    undo: bool = False
    reason: Reason = ""


class PauseSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing is charged and nothing granted from then on until it is resumed, at `resumes_at` by itself."""

    when: When = "now"
    resumes_at: datetime | None = None
    reason: Reason = ""


class ResumeSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    when: When = "now"
    reason: Reason = ""


class ChangeSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another plan (its newest version, or the version `plan_version`), quantities by the key of a price and units of
    add-ons (0 takes one off), together; or the end of the trial; or the revision of a planned change that is withdrawn.
    """

    plan: str | None = None
    plan_version: str | None = None
    quantities: dict[str, Decimal] = {}
    addons: dict[str, Units] = {}
    trial_end_at: datetime | None = None
    withdraw: int | None = None
    when: When = "now"
    reason: Reason = ""
