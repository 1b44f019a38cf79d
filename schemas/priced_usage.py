"""Usage as it is priced: a quantity, and what some models need besides. What came about is in `RatedLine`."""

from datetime import datetime
from decimal import Decimal

from msgspec import Struct


class BucketUsage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one bucket of time and one group holds. `at` is the instant at which the bucket begins."""

    at: datetime
    quantity: Decimal
    group: tuple[str, ...] = ()


class ValueUsage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was used with these values of a matrix price's dimensions, in their order."""

    values: tuple[str, ...]
    quantity: Decimal


class WeighedChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change of a level: `units` came (or went), and count `weighed` for the part of the period that was left."""

    units: Decimal
    weighed: Decimal


class PricedUsage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The usage of a period from its start on.

    One of the finer shapes (`event_amounts`, `values`, `buckets`, `changes`) takes the place of `quantity`. All of them
    are in the order of time, so that usage up to an earlier instant is a beginning of them.
    """

    quantity: Decimal = Decimal(0)
    events: int | None = None  # for a fixed amount per event
    event_amounts: tuple[Decimal, ...] | None = None  # for free events and limits per event
    values: tuple[ValueUsage, ...] | None = None  # for a matrix
    buckets: tuple[BucketUsage, ...] | None = None  # for a bucketed price
    changes: tuple[WeighedChange, ...] | None = None  # units weighed by time: the units choose the tiers
    zone: str = "UTC"  # IANA; what the hours of time bands are read in


class TermProgress(Struct, frozen=True, kw_only=True):
    """How far earlier periods of a term got: the sums of `base` and `quantity` of their `CommitmentUse`."""

    amount: Decimal = Decimal(0)
    quantity: Decimal = Decimal(0)
    last: bool = False  # this period is the term's last
