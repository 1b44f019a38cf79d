"""What a segment of a fee costs, and how much of what was paid can go back."""

from collections.abc import Iterable
from decimal import Decimal

from domain.money import EXACT, ZERO, round_money, total
from domain.pricing import rate_lines
from domain.proration import part_of
from schemas.subscription_life import BookedFee, HeldCard, Segment


def fee_of(segment: Segment) -> Decimal:
    """The fee of a segment, rounded to the minor unit; 0 in a trial and while paused, and for usage."""
    currency = segment.held.card.price.currency
    whole = (segment.whole.start, segment.whole.end)
    return part_of(charged_of(segment), whole, segment.start, segment.end, currency)


def charged_of(segment: Segment) -> Decimal:
    """The fee of the segment's full period, rounded once; 0 where nothing is charged."""
    if segment.trial or segment.paused or segment.held.card.price.meter_id is not None:
        return ZERO
    return whole_fee(segment.held)


def whole_fee(held: HeldCard) -> Decimal:
    """With what fills it up to its minimum: each of the two is a line, and rounded alone."""
    price = held.card.price
    lines = rate_lines(price.price, held.quantity, price.currency)
    return total(
        [round_money(EXACT.multiply(line.exact_amount, Decimal(held.times)), price.currency) for line in lines]
    )


def creditable(booked: Iterable[BookedFee]) -> Decimal:
    """What can still go back of lines of one fee and period: what was paid less what went back (semantics, time)."""
    left = ZERO
    for each in booked:
        amount = each.line.amount or ZERO
        left = EXACT.add(left, amount if each.line.kind == "credit" else each.paid)
    return max(left, ZERO)
