"""What makes a price valid beyond its types."""

from collections.abc import Sequence
from decimal import Decimal
from typing import assert_never

from domain.pricing.fields import Fields
from domain.pricing.validate_terms import check_terms
from schemas.prices import (
    DynamicPrice,
    FlatPrice,
    GraduatedPercentagePrice,
    GraduatedPrice,
    MatrixPrice,
    PackagePrice,
    PercentagePrice,
    PerUnitPrice,
    Price,
    RateTier,
    Tier,
    VolumePrice,
)

MAX_TIERS = 1000
MAX_CELLS = 1000
MAX_DIMENSIONS = 2


def validate_price(price: Price, pointer: str = "") -> None:
    """Raises Invalid with every wrong field as a detail; its code is the first one's.

    Codes: `not_a_number`, `quantity_out_of_range`, `too_many_fraction_digits`, `negative_amount`,
    `package_size_not_positive`, `tiers_missing`, `too_many_tiers`, `tier_not_positive`, `tiers_overlap`, `tiers_gap`,
    `rate_out_of_range`, `limits_crossed`, `matrix_dimensions_malformed`, `matrix_values_mismatch`,
    `matrix_values_repeated`, `too_many_cells`, and those of `check_terms`.
    `pointer` is where the price lies in the request body.
    """
    fields = Fields()
    _check_model(fields, pointer, price)
    check_terms(fields, pointer, price)
    fields.refuse()


def _check_model(fields: Fields, pointer: str, price: Price) -> None:
    match price:
        case FlatPrice():
            fields.amount(f"{pointer}/amount", price.amount)
        case PerUnitPrice():
            fields.amount(f"{pointer}/unit_amount", price.unit_amount)
            fields.amount(f"{pointer}/free_units", price.free_units)
        case PackagePrice():
            fields.amount(f"{pointer}/amount", price.amount)
            fields.amount(f"{pointer}/free_units", price.free_units)
            fields.positive(f"{pointer}/package_size", price.package_size, "package_size_not_positive")
        case GraduatedPrice() | VolumePrice():
            fields.amount(f"{pointer}/free_units", price.free_units)
            _check_tiers(fields, f"{pointer}/tiers", price.tiers)
        case PercentagePrice():
            _check_percentage(fields, pointer, price)
        case GraduatedPercentagePrice():
            _check_tiers(fields, f"{pointer}/tiers", price.tiers)
        case DynamicPrice():
            fields.amount(f"{pointer}/multiplier", price.multiplier)
        case MatrixPrice():
            _check_matrix(fields, pointer, price)
        case _:
            assert_never(price)


def _check_tiers(fields: Fields, pointer: str, tiers: Sequence[Tier | RateTier]) -> None:
    if not tiers:
        fields.wrong(pointer, "tiers_missing", "at least one tier is needed")
        return
    if fields.too_many(pointer, "too_many_tiers", len(tiers), MAX_TIERS):
        return
    before = Decimal(0)
    for index, tier in enumerate(tiers):
        here = f"{pointer}/{index}"
        if isinstance(tier, RateTier):
            fields.percent(f"{here}/rate_percent", tier.rate_percent)
        else:
            fields.amount(f"{here}/unit_amount", tier.unit_amount)
        fields.amount(f"{here}/flat_amount", tier.flat_amount)
        last = index == len(tiers) - 1
        if tier.up_to is None:
            if not last:
                fields.wrong(f"{here}/up_to", "tiers_overlap", "only the last tier is open; others follow this one")
            continue
        if last:
            fields.wrong(f"{here}/up_to", "tiers_gap", "the last tier has no up_to: units above it had no price")
        if not fields.positive(f"{here}/up_to", tier.up_to, "tier_not_positive"):
            continue
        if tier.up_to <= before:
            fields.wrong(f"{here}/up_to", "tiers_overlap", "up_to must be greater than that of the tier before")
        before = max(before, tier.up_to)


def _check_percentage(fields: Fields, pointer: str, price: PercentagePrice) -> None:
    fields.percent(f"{pointer}/rate_percent", price.rate_percent)
    fields.amount(f"{pointer}/fixed_amount", price.fixed_amount)
    fields.amount(f"{pointer}/free_amount", price.free_amount)
    if price.free_events is not None and price.free_events < 0:
        fields.wrong(f"{pointer}/free_events", "negative_amount", "a number of events is not negative")
    least = fields.amount(f"{pointer}/event_minimum", price.event_minimum)
    greatest = fields.amount(f"{pointer}/event_maximum", price.event_maximum)
    if least and greatest:
        fields.ordered(f"{pointer}/event_minimum", price.event_minimum, price.event_maximum)


def _check_matrix(fields: Fields, pointer: str, price: MatrixPrice) -> None:
    fields.amount(f"{pointer}/default_unit_amount", price.default_unit_amount)
    fields.amount(f"{pointer}/free_units", price.free_units)
    names = price.dimensions
    if not 1 <= len(names) <= MAX_DIMENSIONS or len(set(names)) < len(names) or "" in names:
        message = "a matrix has one dimension, or two different ones"
        fields.wrong(f"{pointer}/dimensions", "matrix_dimensions_malformed", message)
        return
    if fields.too_many(f"{pointer}/cells", "too_many_cells", len(price.cells), MAX_CELLS):
        return
    seen = set[tuple[str, ...]]()
    for index, cell in enumerate(price.cells):
        here = f"{pointer}/cells/{index}"
        fields.amount(f"{here}/unit_amount", cell.unit_amount)
        if len(cell.values) != len(names):
            fields.wrong(f"{here}/values", "matrix_values_mismatch", "one value for each dimension is needed")
        elif cell.values in seen:
            fields.wrong(f"{here}/values", "matrix_values_repeated", "these values have a price already")
        seen.add(cell.values)
