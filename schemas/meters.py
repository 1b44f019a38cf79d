"""A meter's definition: which events it counts, how, and by what."""

from decimal import Decimal
from typing import Literal

from msgspec import Struct

from schemas.deltas import Latest

Aggregation = Literal["count", "sum", "min", "max", "avg", "latest", "unique_count", "weighted_sum", "percentile"]
Percent = Literal[50, 90, 95, 99]
FilterOp = Literal["eq", "ne", "in", "nin", "gt", "gte", "lt", "lte", "contains", "exists"]

FilterScalar = str | int | bool


class MeterFilter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One condition on a property. A fraction is written as a string, like every quantity.

    `value` is a list for `in` and `nin`, true or false for `exists` (default true), one value for the others.
    """

    property: str  # path `a.b.c`
    op: FilterOp
    value: FilterScalar | tuple[FilterScalar, ...] | None = None


class MeterSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A meter as a client posts it. Checked by `domain.meters.validate_meter`."""

    key: str
    name: str = ""
    event_types: tuple[str, ...]
    aggregation: Aggregation
    value_property: str | None = None  # path `a.b.c`; none for `count`
    value_expression: str | None = None  # instead of a property: arithmetic over several (`domain.expressions`)
    filters: tuple[MeterFilter, ...] = ()  # all must hold
    dimensions: tuple[str, ...] = ()  # paths; the order is the order of the stored values
    non_negative: bool = False  # a negative value is an issue
    value_required: bool = False  # a null or missing value is an issue instead of being skipped
    percent: Percent | None = None  # of `percentile`: how many in a hundred; 50 where it is not given
    carry: bool = True  # of `weighted_sum`: whether the level from before a range counts in it


class Meter(Struct, frozen=True, kw_only=True):
    """A meter of one tenant and environment, as the catalog keeps it and the workers compile it."""

    id: str
    key: str
    name: str = ""
    generation: int = 1
    event_types: tuple[str, ...]
    aggregation: Aggregation
    value_property: str | None = None
    value_expression: str | None = None
    filters: tuple[MeterFilter, ...] = ()
    dimensions: tuple[str, ...] = ()
    non_negative: bool = False
    value_required: bool = False
    percent: Percent | None = None
    carry: bool = True


class AggregateState(Struct, frozen=True):
    """What is kept of any set of matches of one meter; two states of disjoint sets merge into one.

    The same state answers every aggregation that does not depend on what came when (`weighted_sum`) or on all values
    (`percentile`). `matches` counts all matches, `values` those with a numeric value.
    """

    matches: int = 0
    values: int = 0
    total: Decimal = Decimal(0)
    lowest: Decimal | None = None
    highest: Decimal | None = None
    latest: Latest | None = None
    unique: frozenset[str] = frozenset()
