"""What `meterstream reconcile` compares: each number from two sources that share no code path."""

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from msgspec import Struct


class MeterSums(NamedTuple):
    """Added up over a day of event time."""

    matches: int
    values: int
    total: Decimal
    lowest: Decimal | None
    highest: Decimal | None


class MeterDay(Struct, frozen=True, kw_only=True):
    """One meter on one day of event time (UTC), from the windows and from the events."""

    tenant: str
    environment: str
    meter_id: str
    generation: int
    day: str
    windows: MeterSums
    events: MeterSums


class HourDifference(Struct, frozen=True, kw_only=True):
    """One partition and receipt hour whose rows are not as many as the ledger says."""

    partition: int
    hour: datetime
    outcome: str
    ledger: int
    rows: int


class BalanceDifference(Struct, frozen=True, kw_only=True):
    """A counter of a customer that is not what the usage of its period comes to."""

    tenant: str
    environment: str
    customer_id: str
    meter_id: str
    start_at: datetime
    end_at: datetime
    balance: Decimal | None
    usage: Decimal | None


class LedgerReport(Struct, frozen=True, kw_only=True):
    """`accepted` = `stored` + `duplicate` + `rejected`, as the ledger counts the range; `hours` were compared."""

    hours: int
    stored: int
    duplicate: int
    rejected: int
    accepted: int
    differences: tuple[HourDifference, ...]


class WindowsReport(Struct, frozen=True, kw_only=True):
    cut: int
    meter_days: int
    differences: tuple[MeterDay, ...]


class BalancesReport(Struct, frozen=True, kw_only=True):
    """`moving` counters changed with every look, so that nothing can be said of them."""

    customers: int
    counters: int
    moving: int
    differences: tuple[BalanceDifference, ...]


class ReconcileReport(Struct, frozen=True, kw_only=True):
    """`differences` is the number of all of them: other than 0, something is lost or counted twice."""

    start: datetime
    end: datetime
    as_of: datetime
    ledger: LedgerReport
    windows: WindowsReport
    balances: BalancesReport
    differences: int
