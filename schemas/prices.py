"""Prices as clients post them and plans keep them: a tagged union on `model`.

Amounts are decimal strings in JSON, in major units of the price's currency. What makes one valid beyond its types
(gaps between tiers, signs, sizes) is decided by `domain.pricing.validate_price`.
"""

from decimal import Decimal
from typing import Literal

from msgspec import Struct

PRICE_MODELS = ("flat", "per_unit", "package", "graduated", "volume")


class Tier(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Holds the units `(up_to of the tier before, up_to]`; the last tier of a price has no `up_to`."""

    up_to: Decimal | None = None
    unit_amount: Decimal = Decimal(0)  # per unit inside this tier
    flat_amount: Decimal = Decimal(0)  # once, when the tier is reached


class FlatPrice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="model", tag="flat"):
    """The same amount whatever the quantity."""

    amount: Decimal


class PerUnitPrice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="model", tag="per_unit"):
    unit_amount: Decimal
    free_units: Decimal = Decimal(0)  # included: taken off the quantity before it is priced


class PackagePrice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="model", tag="package"):
    """`amount` for each package of `package_size` units; a started package counts whole (up) or not at all (down)."""

    amount: Decimal
    package_size: Decimal
    rounding: Literal["up", "down"] = "up"
    free_units: Decimal = Decimal(0)


class GraduatedPrice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="model", tag="graduated"):
    """Each unit is priced by the tier it falls into."""

    tiers: tuple[Tier, ...]
    free_units: Decimal = Decimal(0)


class VolumePrice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="model", tag="volume"):
    """All units are priced by the tier that the whole quantity falls into."""

    tiers: tuple[Tier, ...]
    free_units: Decimal = Decimal(0)


Price = FlatPrice | PerUnitPrice | PackagePrice | GraduatedPrice | VolumePrice


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


class RatedStep(Struct, frozen=True, kw_only=True):
    """One step of a rating. The steps' amounts sum to the line's exact amount.

    `from_quantity` (exclusive) and `to_quantity` (inclusive) say which units of the whole quantity it covers.
    `proration` takes off a fee what lies outside the part of the period that is billed.
    """

    kind: Literal["flat", "units", "free_units", "packages", "tier_units", "tier_flat", "proration"]
    from_quantity: Decimal
    to_quantity: Decimal
    quantity: Decimal  # units or packages that were multiplied; 1 for a flat amount
    unit_amount: Decimal
    amount: Decimal  # exact


class RatedLine(Struct, frozen=True, kw_only=True):
    """A quantity priced. `amount` is `exact_amount` rounded once to the currency's minor unit."""

    quantity: Decimal
    currency: str
    exact_amount: Decimal
    amount: Decimal
    steps: tuple[RatedStep, ...]
