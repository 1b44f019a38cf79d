"""Prices as clients post them and plans keep them: a tagged union on `model`.

Amounts are decimal strings in JSON, in major units of the price's currency (or in its pricing unit). What makes one
valid beyond its types (gaps between tiers, signs, sizes) is decided by `domain.pricing.validate_price`.
"""

from decimal import Decimal
from typing import Literal

from msgspec import Struct

from schemas.price_terms import LineTerms, QuantityTerms, UnitConversion, UsageTerms

PRICE_MODELS = (
    "flat",
    "per_unit",
    "package",
    "graduated",
    "volume",
    "percentage",
    "graduated_percentage",
    "dynamic",
    "matrix",
)


class Tier(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Holds the units `(up_to of the tier before, up_to]`; the last tier of a price has no `up_to`."""

    up_to: Decimal | None = None
    unit_amount: Decimal = Decimal(0)  # per unit inside this tier
    flat_amount: Decimal = Decimal(0)  # once, when the tier is reached


class RateTier(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Holds what lies in `(up_to of the tier before, up_to]` of an amount; the last tier has no `up_to`."""

    up_to: Decimal | None = None
    rate_percent: Decimal = Decimal(0)  # of what lies inside this tier
    flat_amount: Decimal = Decimal(0)  # once, when the tier is reached


class FlatPrice(LineTerms, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="model", tag="flat"):
    """The same amount whatever the quantity."""

    amount: Decimal


class PerUnitPrice(
    QuantityTerms, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="model", tag="per_unit"
):
    unit_amount: Decimal
    free_units: Decimal = Decimal(0)  # included: taken off the quantity before it is priced


class PackagePrice(
    QuantityTerms, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="model", tag="package"
):
    """`amount` for each package of `package_size` units; a started package counts whole (up) or not at all (down)."""

    amount: Decimal
    package_size: Decimal
    rounding: Literal["up", "down"] = "up"
    free_units: Decimal = Decimal(0)


class GraduatedPrice(
    QuantityTerms, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="model", tag="graduated"
):
    """Each unit is priced by the tier it falls into."""

    tiers: tuple[Tier, ...]
    free_units: Decimal = Decimal(0)


class VolumePrice(
    QuantityTerms, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="model", tag="volume"
):
    """All units are priced by the tier that the whole quantity falls into."""

    tiers: tuple[Tier, ...]
    free_units: Decimal = Decimal(0)


class PercentagePrice(
    UsageTerms, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="model", tag="percentage"
):
    """A share of an amount, and an amount for each event. 2.9 is 2.9 %.

    An event is free while it is one of the first `free_events` and lies in the first `free_amount`; either may be
    missing. An event that the free amount covers in part pays for the rest, and its fixed amount. The limits hold for
    what one event costs, fixed amount included, unless it is free.
    """

    rate_percent: Decimal
    fixed_amount: Decimal = Decimal(0)
    free_events: int | None = None
    free_amount: Decimal | None = None
    event_minimum: Decimal | None = None
    event_maximum: Decimal | None = None


class GraduatedPercentagePrice(
    UsageTerms, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="model", tag="graduated_percentage"
):
    """Each part of an amount at the rate of the tier that it falls into."""

    tiers: tuple[RateTier, ...]


class DynamicPrice(UsageTerms, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="model", tag="dynamic"):
    """The quantity is an amount already, which the events carried; it is multiplied."""

    multiplier: Decimal = Decimal(1)


class MatrixCell(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    values: tuple[str, ...]  # one for each dimension
    unit_amount: Decimal


class MatrixPrice(UsageTerms, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="model", tag="matrix"):
    """A price per unit for each value of one dimension, or each pair of values of two; all others at the default.

    Free units come off the cells in their order, then off all other values in theirs.
    """

    dimensions: tuple[str, ...]
    cells: tuple[MatrixCell, ...]
    default_unit_amount: Decimal
    free_units: Decimal = Decimal(0)
    conversion: UnitConversion | None = None  # of each cell's quantity


Price = (
    FlatPrice
    | PerUnitPrice
    | PackagePrice
    | GraduatedPrice
    | VolumePrice
    | PercentagePrice
    | GraduatedPercentagePrice
    | DynamicPrice
    | MatrixPrice
)


class PlanPriceSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One price line of a plan as a client posts it; the currency is the plan's."""

    key: str
    name: str = ""
    price: Price
    meter: str | None = None  # id or key of the meter that gives the quantity; None: a flat fee, or `quantity` units
    quantity: Decimal = Decimal(1)  # for a price without a meter


class PlanPrice(Struct, frozen=True, kw_only=True):
    """A price line as the plan keeps it. Billed in arrears, at the end of each period."""

    id: str
    key: str
    name: str = ""
    currency: str  # ISO 4217, upper case
    price: Price
    meter_id: str | None = None
    quantity: Decimal = Decimal(1)


StepKind = Literal[
    "conversion",  # units into priced units; costs nothing
    "free_units",  # or the free part of an amount; costs nothing
    "flat",
    "units",
    "packages",
    "tier_units",
    "tier_flat",
    "rate",  # a share of an amount
    "event_fixed",
    "event_minimum",  # what lifts events to the least amount of one
    "event_maximum",  # what is taken off events above the greatest amount of one
    "multiplied",  # an amount that the events carried
    "floor",  # brings a sum below zero up to it
    "overage",  # what the overage factor adds to usage beyond a commitment
    "rounding",  # to the minor unit, before discounts
    "discount",
    "maximum",
    "commitment",  # fills up to a commitment
    "minimum",  # fills up to the minimum
    "carried",  # what earlier lines of the period rounded away, or rounded up
    "proration",
]


class RatedStep(Struct, frozen=True, kw_only=True):
    """One step of a rating. The steps' amounts sum to the line's exact amount.

    `from_quantity` (exclusive) and `to_quantity` (inclusive) say which units of the whole quantity it covers; of a
    bucketed price, all buckets together. `proration` takes off a fee what lies outside the part of the period that is
    billed. On a line that follows others in its period a step is what has come on top: `quantity` may be below zero.
    """

    kind: StepKind
    from_quantity: Decimal
    to_quantity: Decimal
    quantity: Decimal  # units, packages or events that were multiplied; 1 for a flat amount
    unit_amount: Decimal
    amount: Decimal  # exact
    tier: int | None = None  # counted from 1
    label: str = ""  # the values of a matrix, the hours of a band, a discount's name


class CommitmentUse(Struct, frozen=True, kw_only=True):
    """How a period's usage stands to its commitment: exact amounts from the start of the period, before discounts."""

    base: Decimal  # the usage at list price
    utilized: Decimal  # what of it is charged at list price
    overage: Decimal  # what the rest is charged, factor included
    true_up: Decimal  # what is missing and charged
    quantity: Decimal = Decimal(0)  # units as priced, where a quantity is committed


LineKind = Literal["usage", "true_up"]


class RatedLine(Struct, frozen=True, kw_only=True):
    """Usage priced, or what fills it up (`true_up`). `amount` is `exact_amount` rounded once to the minor unit.

    Where lines came before it in the period, `amount` is the period's rounded amount up to here minus that up to there.
    """

    kind: LineKind = "usage"
    quantity: Decimal
    currency: str
    exact_amount: Decimal
    amount: Decimal
    steps: tuple[RatedStep, ...]
    commitment: CommitmentUse | None = None
