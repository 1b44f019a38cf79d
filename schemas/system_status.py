"""How far the whole system is, as `meterstream status` shows it."""

from datetime import datetime

from msgspec import Struct


class OpenIntent(Struct, frozen=True, kw_only=True):
    """A block that was begun and is not done."""

    first_offset: int
    last_offset: int
    intent_at: datetime
    renewals: int


class PartitionState(Struct, frozen=True, kw_only=True):
    """One partition of the log as the ledger has it; everything logged before `as_of` is done."""

    partition: int
    epoch: int
    generation: int
    version: int
    last_offset: int
    last_done_at: datetime | None
    as_of: datetime
    open_intent: OpenIntent | None


class PartitionStatus(PartitionState, frozen=True, kw_only=True):
    """`lag` is the records of the log that are not done; null where the log does not answer."""

    lag: int | None


class BalancesStatus(Struct, frozen=True, kw_only=True):
    """One partition of the deltas: records that the balances worker has not committed."""

    partition: int
    lag: int | None


class CutStatus(Struct, frozen=True, kw_only=True):
    cut: int
    raised_at: datetime
    complete: bool


class SystemStatus(Struct, frozen=True, kw_only=True):
    """`problems` says why it is not healthy, a sentence each. `balances_differing` is how many balances are not what their
    usage comes to; null where nobody asked.
    """

    at: datetime
    as_of: datetime | None
    freshness_s: float | None
    partitions: tuple[PartitionStatus, ...]
    balances: tuple[BalancesStatus, ...]
    cut: CutStatus | None
    failed_periods: dict[str, int]
    balances_differing: int | None
    problems: tuple[str, ...]
