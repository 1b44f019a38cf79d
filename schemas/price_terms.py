"""What a price says besides its model: conversion of units, buckets, commitments, discounts, limits, a unit of its own.

All of it is optional, and stands beside the model's fields in the JSON of a price. What is taken in which order is in
docs/pricing/README.md; what goes together is decided by `domain.pricing.validate_price`.
"""

from decimal import Decimal
from typing import Literal

from msgspec import Struct

from schemas.periods import Cadence

BucketSize = Literal["hour", "day", "month"]


class UnitConversion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Metered units to priced units: multiplied or divided by `factor`, then rounded to whole ones.

    Where `rounding` is none, what division leaves is kept to 12 digits after the point, as every quantity is.
    """

    operation: Literal["multiply", "divide"] = "divide"
    factor: Decimal
    rounding: Literal["none", "up", "down", "half_up"] = "none"


class PercentageDiscount(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    percent: Decimal  # 15 takes off 15 %
    name: str = ""


class PricingUnit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A custom unit that all amounts of the price are in, such as credits; `rate` is what one costs in the currency."""

    code: str
    rate: Decimal


class Commitment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Usage that was promised: an amount at list price, or a quantity. What goes beyond is charged times the factor.

    `per` window: each bucket of the price for itself. `per` term: all periods of the `term` together.
    """

    amount: Decimal | None = None
    quantity: Decimal | None = None
    per: Literal["period", "window", "term"] = "period"
    term: Cadence | None = None
    true_up: bool = False  # usage below it is filled up to it
    overage_factor: Decimal = Decimal(1)


class TimeBand(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The hours of a day from `start` up to `end` (HH:MM on whole hours, local); past midnight where `end` is earlier."""

    start: str
    end: str
    unit_amount: Decimal | None = None  # instead of the line's own price
    commitment: Commitment | None = None  # of each of these hours


class Bucketing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Priced for each bucket of time and each group for itself, then summed."""

    size: BucketSize
    group_by: tuple[str, ...] = ()  # dimensions of the meter
    bands: tuple[TimeBand, ...] = ()  # of hour buckets


class LineTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What any price may have. Each discount is taken from what the one before left."""

    discounts: tuple[PercentageDiscount, ...] = ()
    maximum_amount: Decimal | None = None
    minimum_amount: Decimal | None = None
    pricing_unit: PricingUnit | None = None


class UsageTerms(LineTerms, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a price of usage may have."""

    commitment: Commitment | None = None


class QuantityTerms(UsageTerms, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a price may have whose usage is one quantity."""

    conversion: UnitConversion | None = None
    bucket: Bucketing | None = None
