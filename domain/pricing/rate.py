"""Usage and a price make lines, with every step that leads to their amounts (semantics, prices).

The order on a line: conversion, free units, price, commitment, percentage discounts, maximum; then, as lines of their
own, what fills up to a commitment and to the minimum. Everything is rated from the start of the period: a line in the
middle of it is the rating up to its end minus the rating up to its beginning, both rounded, so that the lines of a
period sum to the same amount wherever it is split.
"""

from decimal import Decimal
from fractions import Fraction

from domain.money import EXACT, ZERO, round_money
from domain.pricing.commitments import NO_TERM, WHOLE, amount_for
from domain.pricing.cumulative import Cumulative, cumulative, reduction_steps
from domain.pricing.steps import ONE, adjustment, amount_of, difference, line_of
from schemas.priced_usage import PricedUsage, TermProgress
from schemas.prices import FlatPrice, Price, RatedLine, StepKind, VolumePrice

Usage = Decimal | PricedUsage


def rate(price: Price, usage: Usage, currency: str) -> RatedLine:
    """The usage of a whole period, without what fills it up (`rate_lines` has that).

    The steps' amounts sum to `exact_amount`, and `amount` is that sum rounded once. A quantity below zero (corrections
    beyond the usage) is priced as zero units: a price never pays out.
    Raises Invalid `unknown_currency`, `usage_unfit` (the price needs usage of another shape). The price is valid
    (`validate_price`).
    """
    return _first_line(cumulative(price, _shaped(usage), currency, WHOLE, NO_TERM), currency)


def rate_lines(
    price: Price,
    usage: Usage,
    currency: str,
    *,
    before: Usage | None = None,
    last: bool = True,
    part: Fraction = WHOLE,
    term: TermProgress = NO_TERM,
) -> tuple[RatedLine, ...]:
    """One line of a period: the usage line, and on the last line of the period what fills it up.

    `usage` is that of the period from its start up to the line's end, `before` up to the line's beginning; None: no
    line came before it in the period. A flat price and a volume price wait for the last line, and are billed there
    whole. `part` is the part of a full period that is billed: minimum and commitment are prorated by it. `term` is how
    far a commitment over several periods got in the earlier ones.
    Raises Invalid `unknown_currency`, `usage_unfit`. The price is valid (`validate_price`).
    """
    shaped = _shaped(usage)
    at_end = isinstance(price, (FlatPrice, VolumePrice))
    if at_end and not last:
        return (line_of("usage", [], ZERO, currency),)
    after = cumulative(price, shaped, currency, part, term)
    if before is None or at_end:
        line = _first_line(after, currency)
    else:
        line = _next_line(after, cumulative(price, _shaped(before), currency, part, term), currency)
    return (line, *(_true_ups(price, after, currency, part) if last else ()))


def rerate(
    price: Price,
    usage: Usage,
    billed: Usage,
    currency: str,
    *,
    part: Fraction = WHOLE,
    term: TermProgress = NO_TERM,
) -> tuple[RatedLine, ...]:
    """What a period that was billed in full for the usage `billed` has to be billed in addition, now that it is `usage`.

    The lines may be negative. True-ups that changed are lines too. Together with what was billed they sum to the
    period's lines for `usage`, so a difference below one minor unit is not lost: it comes in as soon as it makes one up.
    Raises Invalid `unknown_currency`, `usage_unfit`.
    """
    after = cumulative(price, _shaped(usage), currency, part, term)
    before = cumulative(price, _shaped(billed), currency, part, term)
    fills = difference(
        [step for line in _true_ups(price, after, currency, part) for step in line.steps],
        [step for line in _true_ups(price, before, currency, part) for step in line.steps],
    )
    return (
        _next_line(after, before, currency),
        *(line_of("true_up", [step], step.quantity, currency) for step in fills if step.amount),
    )


def _shaped(usage: Usage) -> PricedUsage:
    return usage if isinstance(usage, PricedUsage) else PricedUsage(quantity=usage)


def _first_line(after: Cumulative, currency: str) -> RatedLine:
    return RatedLine(
        quantity=after.quantity,
        currency=currency,
        exact_amount=after.exact,
        amount=round_money(after.exact, currency),
        steps=tuple(after.steps),
        commitment=after.commitment,
    )


def _next_line(after: Cumulative, before: Cumulative, currency: str) -> RatedLine:
    """What earlier lines rounded comes in as a step, so that the period's lines sum to the period's rounded amount."""
    billed = round_money(before.exact, currency)
    carried = EXACT.subtract(before.exact, billed)
    quantity = EXACT.subtract(after.quantity, before.quantity)
    steps = difference(after.steps, before.steps)
    return RatedLine(
        quantity=quantity,
        currency=currency,
        exact_amount=EXACT.subtract(after.exact, billed),
        amount=EXACT.subtract(round_money(after.exact, currency), billed),
        steps=tuple([*steps, adjustment("carried", carried, quantity)] if carried else steps),
        commitment=after.commitment,
    )


def _true_ups(price: Price, whole: Cumulative, currency: str, part: Fraction) -> list[RatedLine]:
    """Each from the rounded amounts, so that usage and true-up sum to what was committed, to the minor unit."""
    billed, lines = round_money(whole.exact, currency), list[RatedLine]()
    if whole.commitment is not None and whole.commitment.true_up:
        # At list price, as the commitment is: discounts and the maximum hold for it as for usage.
        filled = EXACT.add(whole.charged, whole.commitment.true_up)
        reduced = amount_of(reduction_steps(price, filled, currency, whole.rate, ZERO))
        missing = EXACT.subtract(round_money(EXACT.add(filled, reduced), currency), billed)
        lines += _fill("commitment", missing, currency)
        billed = EXACT.add(billed, missing)
    if price.minimum_amount is not None:
        least = amount_for(EXACT.multiply(price.minimum_amount, whole.rate), part, currency)
        lines += _fill("minimum", EXACT.subtract(round_money(least, currency), billed), currency)
    return lines


def _fill(kind: StepKind, missing: Decimal, currency: str) -> list[RatedLine]:
    return [line_of("true_up", [adjustment(kind, missing)], ONE, currency)] if missing > 0 else []
