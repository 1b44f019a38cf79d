"""Recurring time: cadences and the half-open periods they cut."""

from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

CadenceUnit = Literal["minute", "hour", "day", "week", "month", "quarter", "half_year", "year", "never"]
BillingAnchor = Literal["anniversary", "calendar"]
# What a part of a period is measured by: elapsed time, or local days.
ProrationBasis = Literal["seconds", "days"]

# The end of a period of cadence `never`. A real instant, so that ranges and keys need no special case; it fits every
# store's time type (32-bit seconds end in 2106).
FOREVER = datetime(2100, 1, 1, tzinfo=UTC)


class Cadence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every `count` `unit`s."""

    unit: CadenceUnit
    count: int = 1


class Period(Struct, frozen=True, kw_only=True):
    """`[start, end)` in UTC, on whole seconds. `index` counts from the anchor (0 starts on it; may be negative)."""

    start: datetime
    end: datetime
    index: int


class Recurrence(Struct, frozen=True, kw_only=True):
    """Periods every `cadence` from `anchor` in the IANA zone `zone`, in effect from `effective_at` on."""

    effective_at: datetime
    anchor: datetime
    cadence: Cadence
    zone: str = "UTC"
