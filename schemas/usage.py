"""Usage as it is asked for and as it is answered."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from msgspec import Struct

from schemas.deltas import Latest
from schemas.meters import Meter


class TimeWindow(Struct, frozen=True, kw_only=True):
    """`[start, end)` in UTC."""

    start: datetime
    end: datetime


class UsageQuery(Struct, frozen=True, kw_only=True):
    """Usage of one meter over `[start, end)`, at any instants of millisecond precision.

    `references` are all texts that events name the customer by; None is all customers. `window` is minute, hour, day,
    week, month or PT<n>M / PT<n>H (`domain.windows`), cut in `timezone`; None is the whole range as one window.
    `group_by` and `filters` name dimensions of the meter. `cut` C reads it as known at cutoff C; None is now.
    """

    tenant: str
    environment: str
    meter: Meter
    references: tuple[str, ...] | None
    start: datetime
    end: datetime
    window: str | None = None
    timezone: str = "UTC"
    group_by: tuple[str, ...] = ()
    filters: Mapping[str, tuple[str, ...]] = {}
    cut: int | None = None


class UsageRow(Struct, frozen=True, kw_only=True):
    """One window of one group. `value` is None where an aggregate of nothing has no value."""

    window_start: datetime
    window_end: datetime
    value: Decimal | None
    dimensions: Mapping[str, str | None] = {}


class Usage(Struct, frozen=True, kw_only=True):
    """Windows in order of (start, dimensions), and the aggregate over the whole range: not the sum of windows."""

    rows: tuple[UsageRow, ...]
    total: Decimal | None


class UsageState(Struct, frozen=True, kw_only=True):
    """What was counted of one meter in one range, enough for every aggregation. `uniques` is exact."""

    matches: int = 0
    values: int = 0
    total: Decimal = Decimal(0)
    lowest: Decimal | None = None
    highest: Decimal | None = None
    latest: Latest | None = None
    uniques: int = 0


class UsageRange(Struct, frozen=True, kw_only=True):
    """One of many ranges to read at once: a meter's usage of one customer, by all its references.

    With `spans`, only those `[start, end)` of the range are read, all into one value; they do not overlap.
    """

    meter_id: str
    generation: int
    references: tuple[str, ...]
    start: datetime
    end: datetime
    spans: tuple[tuple[datetime, datetime], ...] = ()
