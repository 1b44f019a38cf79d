"""Prices per bucket: each hour, day or month and each group for itself, then summed.

An empty bucket costs nothing, whether it is listed or not. Free units are of the line: they come off the buckets in
the order of time. A commitment per window is of all groups of a bucket together.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from domain.errors import Invalid
from domain.money import ZERO, total
from domain.periods import zone_of
from domain.pricing.bands import band_at
from domain.pricing.commitments import in_currency, settle, settle_quantity, sum_of, uncommitted
from domain.pricing.models import QuantityPrice, quantity_steps
from domain.pricing.steps import amount_of, merged, priced
from domain.pricing.units import conversion_step, convert, take_free_in_order
from schemas.price_terms import Bucketing, Commitment, TimeBand
from schemas.priced_usage import BucketUsage, PricedUsage
from schemas.prices import CommitmentUse, PerUnitPrice, RatedStep


class BucketSteps(NamedTuple):
    """What one bucket and group costs at list price, in the unit of the price."""

    at: datetime
    group: tuple[str, ...]
    billable: Decimal
    steps: list[RatedStep]


class BucketedSteps(NamedTuple):
    steps: list[RatedStep]  # of all buckets, merged by price; in the unit of the price
    commitment: CommitmentUse | None  # in the currency; None without commitments per window


class _Row(NamedTuple):
    bucket: BucketUsage
    metered: Decimal
    quantity: Decimal  # in priced units
    billable: Decimal
    band: TimeBand | None


def bucketed_steps(price: QuantityPrice, bucket: Bucketing, usage: PricedUsage, rate: Decimal) -> BucketedSteps:
    """Raises Invalid `usage_unfit` (no buckets, or one twice), `unknown_timezone`."""
    free, rows = _rows(price, bucket, usage)
    charges = [(row, _row_steps(price, row)) for row in rows]
    quantity = total([row.quantity for row in rows])
    steps = [step for _, row_steps in charges for step in row_steps]
    conversion = []
    if price.conversion is not None:
        conversion = [conversion_step(total([row.metered for row in rows]), quantity)]
    return BucketedSteps(
        steps=conversion + merged(free + steps, quantity), commitment=_window_commitments(price, bucket, charges, rate)
    )


def bucket_steps(price: QuantityPrice, usage: PricedUsage) -> list[BucketSteps]:
    """What each bucket and group costs, in the order of time and group: the detail below the steps of a line.

    Raises as `bucketed_steps`.
    """
    rows = _rows(price, price.bucket or Bucketing(size="hour"), usage)[1]
    return [BucketSteps(row.bucket.at, row.bucket.group, row.billable, _row_steps(price, row)) for row in rows]


def _rows(price: QuantityPrice, bucket: Bucketing, usage: PricedUsage) -> tuple[list[RatedStep], list[_Row]]:
    if usage.buckets is None:
        raise Invalid("usage_unfit", f"this price needs the usage of each {bucket.size}")
    ordered = sorted(usage.buckets, key=lambda each: (each.at, each.group))
    if len({(each.at, each.group) for each in ordered}) < len(ordered):
        raise Invalid("usage_unfit", "a bucket and group stands there twice")
    metered = [max(each.quantity, ZERO) for each in ordered]
    quantities = metered if price.conversion is None else [convert(price.conversion, each) for each in metered]
    free, billable = take_free_in_order(price.free_units, quantities)
    zone = zone_of(usage.zone)
    rows = [
        _Row(each, raw, quantity, left, band_at(bucket.bands, each.at, zone) if bucket.bands else None)
        for each, raw, quantity, left in zip(ordered, metered, quantities, billable, strict=True)
    ]
    return free, rows


def _row_steps(price: QuantityPrice, row: _Row) -> list[RatedStep]:
    if not row.billable:
        return []
    if row.band is not None and row.band.unit_amount is not None:
        return [priced("units", row.billable, row.band.unit_amount, label=f"{row.band.start}-{row.band.end}")]
    return quantity_steps(price, row.billable)


def _window_commitments(
    price: QuantityPrice, bucket: Bucketing, charges: Sequence[tuple[_Row, list[RatedStep]]], rate: Decimal
) -> CommitmentUse | None:
    of_line = price.commitment if price.commitment is not None and price.commitment.per == "window" else None
    if of_line is None and not any(band.commitment for band in bucket.bands):
        return None
    windows: dict[datetime, list[tuple[_Row, list[RatedStep]]]] = {}
    for row, steps in charges:
        windows.setdefault(row.bucket.at, []).append((row, steps))
    return in_currency(sum_of([_window(price, of_line, window) for window in windows.values()]), rate)


def _window(
    price: QuantityPrice, of_line: Commitment | None, window: Sequence[tuple[_Row, list[RatedStep]]]
) -> CommitmentUse:
    """In the unit of the price. A band's own commitment takes the place of the line's."""
    band = window[0][0].band
    commitment = of_line if band is None or band.commitment is None else band.commitment
    base = total([amount_of(steps) for _, steps in window])
    if commitment is None:
        return uncommitted(base)
    if commitment.amount is not None:
        return settle(base, commitment.amount, commitment.overage_factor, fill=commitment.true_up)
    quantity = total([row.billable for row, _ in window])
    committed = commitment.quantity or ZERO
    return settle_quantity(_price_in(price, band), quantity, ZERO, commitment, committed, fill=commitment.true_up)


def _price_in(price: QuantityPrice, band: TimeBand | None) -> QuantityPrice:
    if band is None or band.unit_amount is None:
        return price
    return PerUnitPrice(unit_amount=band.unit_amount)
