"""What makes valid what a price says besides its model, and what of it goes together."""

from decimal import Decimal

from domain.errors import Invalid
from domain.periods import validate_cadence
from domain.pricing.bands import hours_of, parse_clock
from domain.pricing.fields import Fields
from domain.pricing.models import QuantityPrice
from schemas.periods import Cadence
from schemas.price_terms import (
    Bucketing,
    Commitment,
    LineTerms,
    PricingUnit,
    QuantityTerms,
    TimeBand,
    UnitConversion,
    UsageTerms,
)
from schemas.prices import MatrixPrice, Price

MAX_DISCOUNTS = 20
MAX_GROUPS = 8
_LONGEST_UNIT = 32


def check_terms(fields: Fields, pointer: str, price: Price) -> None:
    """Codes: `rate_out_of_range`, `too_many_discounts`, `limits_crossed`, `factor_not_positive`, `unit_malformed`,
    `commitment_ambiguous`, `commitment_not_positive`, `commitment_quantity_unused`, `commitment_window_unused`,
    `commitment_term_mismatch`, `commitment_above_maximum`, `overage_factor_below_one`, `too_many_groups`,
    `dimension_repeated`, `band_malformed`, `bands_overlap`, `bands_unused`, `cadence_out_of_range`, and those of a
    number.
    """
    _check_line(fields, pointer, price)
    if isinstance(price, UsageTerms) and price.commitment is not None:
        _check_commitment(fields, f"{pointer}/commitment", price.commitment, price)
    if isinstance(price, (QuantityTerms, MatrixPrice)) and price.conversion is not None:
        _check_conversion(fields, f"{pointer}/conversion", price.conversion)
    if isinstance(price, QuantityTerms) and price.bucket is not None:
        _check_bucket(fields, f"{pointer}/bucket", price.bucket, price)


def check_subscription_commitment(commitment: Commitment, pointer: str = "") -> None:
    """A commitment over the lines of a subscription is an amount, of a period or a term. Raises Invalid as above."""
    fields = Fields()
    _check_shape(fields, pointer, commitment)
    if commitment.quantity is not None:
        _quantity_unused(fields, pointer)
    if commitment.per == "window":
        _window_unused(fields, pointer)
    fields.refuse()


def _check_line(fields: Fields, pointer: str, terms: LineTerms) -> None:
    fields.too_many(f"{pointer}/discounts", "too_many_discounts", len(terms.discounts), MAX_DISCOUNTS)
    for index, discount in enumerate(terms.discounts):
        fields.percent(f"{pointer}/discounts/{index}/percent", discount.percent)
    least = fields.amount(f"{pointer}/minimum_amount", terms.minimum_amount)
    greatest = fields.amount(f"{pointer}/maximum_amount", terms.maximum_amount)
    if least and greatest:
        fields.ordered(f"{pointer}/minimum_amount", terms.minimum_amount, terms.maximum_amount)
    if terms.pricing_unit is not None:
        _check_unit(fields, f"{pointer}/pricing_unit", terms.pricing_unit)


def _check_unit(fields: Fields, pointer: str, unit: PricingUnit) -> None:
    if not 0 < len(unit.code) <= _LONGEST_UNIT or not unit.code.isprintable() or unit.code != unit.code.strip():
        fields.wrong(f"{pointer}/code", "unit_malformed", f"a unit's code is 1 to {_LONGEST_UNIT} printable characters")
    fields.positive(f"{pointer}/rate", unit.rate, "factor_not_positive")


def _check_conversion(fields: Fields, pointer: str, conversion: UnitConversion) -> None:
    fields.positive(f"{pointer}/factor", conversion.factor, "factor_not_positive")


def _check_commitment(fields: Fields, pointer: str, commitment: Commitment, price: UsageTerms) -> None:
    _check_shape(fields, pointer, commitment)
    bucket = price.bucket if isinstance(price, QuantityTerms) else None
    if commitment.per == "window" and bucket is None:
        _window_unused(fields, pointer)
    if commitment.quantity is not None:
        one_quantity = isinstance(price, QuantityTerms) and (bucket is None) == (commitment.per != "window")
        if not one_quantity or (bucket is not None and bucket.group_by):
            _quantity_unused(fields, pointer)
    if commitment.per == "period" and commitment.amount is not None and price.maximum_amount is not None:
        _below_maximum(fields, pointer, commitment.amount, price.maximum_amount)


def _check_shape(fields: Fields, pointer: str, commitment: Commitment) -> None:
    if (commitment.amount is None) == (commitment.quantity is None):
        fields.wrong(pointer, "commitment_ambiguous", "a commitment is either an amount or a quantity")
    elif commitment.amount is not None:
        fields.positive(f"{pointer}/amount", commitment.amount, "commitment_not_positive")
    elif commitment.quantity is not None:
        fields.positive(f"{pointer}/quantity", commitment.quantity, "commitment_not_positive")
    if (commitment.per == "term") != (commitment.term is not None):
        fields.wrong(f"{pointer}/term", "commitment_term_mismatch", "a commitment per term, and no other, has a term")
    if commitment.term is not None:
        _check_term(fields, f"{pointer}/term/count", commitment.term)
    if fields.amount(f"{pointer}/overage_factor", commitment.overage_factor) and commitment.overage_factor < 1:
        fields.wrong(f"{pointer}/overage_factor", "overage_factor_below_one", "excess costs no less than its price")


def _check_term(fields: Fields, pointer: str, term: Cadence) -> None:
    try:
        validate_cadence(term)
    except Invalid as invalid:
        fields.wrong(pointer, "cadence_out_of_range", invalid.message)


def _below_maximum(fields: Fields, pointer: str, committed: Decimal, maximum: Decimal) -> None:
    if committed > maximum:
        fields.wrong(f"{pointer}/amount", "commitment_above_maximum", "more is committed than the line's maximum")


def _quantity_unused(fields: Fields, pointer: str) -> None:
    message = "a quantity is committed where one quantity is priced: not by groups, dimensions, events or several lines"
    fields.wrong(f"{pointer}/quantity", "commitment_quantity_unused", message)


def _window_unused(fields: Fields, pointer: str) -> None:
    fields.wrong(f"{pointer}/per", "commitment_window_unused", "windows are the buckets of a price, and it has none")


def _check_bucket(fields: Fields, pointer: str, bucket: Bucketing, price: QuantityPrice) -> None:
    fields.too_many(f"{pointer}/group_by", "too_many_groups", len(bucket.group_by), MAX_GROUPS)
    if len(set(bucket.group_by)) < len(bucket.group_by):
        fields.wrong(f"{pointer}/group_by", "dimension_repeated", "a dimension stands there twice")
    if bucket.bands and bucket.size != "hour":
        fields.wrong(f"{pointer}/bands", "bands_unused", "hours of the day are told apart by hour buckets only")
        return
    taken = frozenset[int]()
    for index, band in enumerate(bucket.bands):
        here = f"{pointer}/bands/{index}"
        hours = _band_hours(fields, here, band)
        if hours & taken:
            fields.wrong(f"{here}/start", "bands_overlap", "an hour of this band lies in one before it")
        taken |= hours
        fields.amount(f"{here}/unit_amount", band.unit_amount)
        if band.commitment is not None:
            _check_band_commitment(fields, f"{here}/commitment", band.commitment, price)


def _check_band_commitment(fields: Fields, pointer: str, commitment: Commitment, price: QuantityPrice) -> None:
    _check_commitment(fields, pointer, commitment, price)
    if commitment.per != "window":
        fields.wrong(f"{pointer}/per", "bands_unused", "a commitment of a band is one per window")


def _band_hours(fields: Fields, pointer: str, band: TimeBand) -> frozenset[int]:
    try:
        start, end = parse_clock(band.start), parse_clock(band.end)
    except Invalid as invalid:
        fields.wrong(f"{pointer}/start", "band_malformed", invalid.message)
        return frozenset()
    if start.minute or end.minute or start == end:
        fields.wrong(f"{pointer}/start", "band_malformed", "a band is whole hours, one at least")
        return frozenset()
    return hours_of(band)
