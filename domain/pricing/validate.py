"""What makes a price valid beyond its types."""

from decimal import Decimal

from domain.errors import FieldError, Invalid
from domain.quantities import parse_quantity
from schemas.prices import FlatPrice, GraduatedPrice, PackagePrice, PerUnitPrice, Price, Tier, VolumePrice

MAX_TIERS = 1000


def validate_price(price: Price, pointer: str = "") -> None:
    """Raises Invalid with every wrong field as a detail; its code is the first one's.

    Codes: `not_a_number`, `quantity_out_of_range`, `too_many_fraction_digits`, `negative_amount`,
    `package_size_not_positive`, `tiers_missing`, `too_many_tiers`, `tier_not_positive`, `tiers_overlap`, `tiers_gap`.
    `pointer` is where the price lies in the request body.
    """
    errors: list[FieldError] = []
    match price:
        case FlatPrice():
            _amount(errors, f"{pointer}/amount", price.amount)
        case PerUnitPrice():
            _amount(errors, f"{pointer}/unit_amount", price.unit_amount)
            _amount(errors, f"{pointer}/free_units", price.free_units)
        case PackagePrice():
            _amount(errors, f"{pointer}/amount", price.amount)
            _amount(errors, f"{pointer}/free_units", price.free_units)
            _positive(errors, f"{pointer}/package_size", price.package_size, "package_size_not_positive")
        case GraduatedPrice() | VolumePrice():
            _amount(errors, f"{pointer}/free_units", price.free_units)
            _tiers(errors, f"{pointer}/tiers", price.tiers)
    if errors:
        raise Invalid(errors[0].code, errors[0].message, errors)


def _error(errors: list[FieldError], pointer: str, code: str, message: str) -> None:
    errors.append(FieldError(pointer=pointer, code=code, message=message))


def _amount(errors: list[FieldError], pointer: str, value: Decimal) -> bool:
    try:
        parse_quantity(value)
    except Invalid as invalid:
        _error(errors, pointer, invalid.code, invalid.message)
        return False
    if value < 0:
        _error(errors, pointer, "negative_amount", "a price is not negative")
        return False
    return True


def _positive(errors: list[FieldError], pointer: str, value: Decimal, code: str) -> bool:
    if not _amount(errors, pointer, value):
        return False
    if not value:
        _error(errors, pointer, code, "must be greater than 0")
        return False
    return True


def _tiers(errors: list[FieldError], pointer: str, tiers: tuple[Tier, ...]) -> None:
    if not tiers:
        _error(errors, pointer, "tiers_missing", "at least one tier is needed")
        return
    if len(tiers) > MAX_TIERS:
        _error(errors, pointer, "too_many_tiers", f"at most {MAX_TIERS} tiers are taken")
        return
    before = Decimal(0)
    for index, tier in enumerate(tiers):
        here = f"{pointer}/{index}"
        _amount(errors, f"{here}/unit_amount", tier.unit_amount)
        _amount(errors, f"{here}/flat_amount", tier.flat_amount)
        last = index == len(tiers) - 1
        if tier.up_to is None:
            if not last:
                _error(errors, f"{here}/up_to", "tiers_overlap", "only the last tier is open; others follow this one")
            continue
        if last:
            _error(errors, f"{here}/up_to", "tiers_gap", "the last tier has no up_to: units above it had no price")
        if not _positive(errors, f"{here}/up_to", tier.up_to, "tier_not_positive"):
            continue
        if tier.up_to <= before:
            _error(errors, f"{here}/up_to", "tiers_overlap", "up_to must be greater than that of the tier before")
        before = max(before, tier.up_to)
