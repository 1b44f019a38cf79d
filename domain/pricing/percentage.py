"""Shares of amounts: one rate with amounts and limits per event, or a rate for each tier."""

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from domain.errors import Invalid
from domain.money import EXACT, HUNDREDTH, ZERO
from domain.pricing.steps import adjustment, priced
from domain.pricing.tiers import graduated_steps
from schemas.priced_usage import PricedUsage
from schemas.prices import GraduatedPercentagePrice, PercentagePrice, RatedStep, Tier


class _Sums(NamedTuple):
    free: Decimal  # of the amount
    paid: Decimal
    paid_events: int
    lifted: Decimal = ZERO  # what the minimum of an event adds
    cut: Decimal = ZERO  # what the maximum of an event takes off


def percentage_steps(price: PercentagePrice, usage: PricedUsage) -> list[RatedStep]:
    """Raises Invalid `usage_unfit` where the price needs the events, or each one's amount, and the usage has neither."""
    rate = EXACT.multiply(price.rate_percent, HUNDREDTH)
    sums = _of_sums(price, usage) if usage.event_amounts is None else _of_events(price, rate, usage.event_amounts)
    events = Decimal(sums.paid_events)
    steps = [priced("free_units", sums.free, ZERO)] if sums.free else []
    steps.append(priced("rate", sums.paid, rate, start=sums.free))
    if price.fixed_amount and events:
        steps.append(priced("event_fixed", events, price.fixed_amount))
    if sums.lifted:
        steps.append(adjustment("event_minimum", sums.lifted, events))
    if sums.cut:
        steps.append(adjustment("event_maximum", EXACT.minus(sums.cut), events))
    return steps


def graduated_percentage_steps(price: GraduatedPercentagePrice, amount: Decimal) -> list[RatedStep]:
    tiers = [
        Tier(
            up_to=tier.up_to,
            unit_amount=EXACT.multiply(tier.rate_percent, HUNDREDTH),
            flat_amount=tier.flat_amount,
        )
        for tier in price.tiers
    ]
    return graduated_steps(tiers, amount, ZERO, "rate")


def _of_sums(price: PercentagePrice, usage: PricedUsage) -> _Sums:
    limited = price.event_minimum is not None or price.event_maximum is not None
    if limited or price.free_events or (price.fixed_amount and price.free_amount):
        raise Invalid("usage_unfit", "this percentage price needs the amount of each event")
    if price.fixed_amount and usage.events is None:
        raise Invalid("usage_unfit", "a price with a fixed amount per event needs the number of events")
    free = min(price.free_amount or ZERO, usage.quantity)
    return _Sums(free, EXACT.subtract(usage.quantity, free), usage.events or 0)


def _of_events(price: PercentagePrice, rate: Decimal, amounts: Sequence[Decimal]) -> _Sums:
    """In the order of time. An amount below zero is a correction: its share comes back, nothing else applies to it."""
    with_free = price.free_events is not None or price.free_amount is not None
    left = price.free_amount
    free = paid = lifted = cut = ZERO
    paid_events = 0
    for index, amount in enumerate(amounts):
        if amount < 0:
            paid = EXACT.add(paid, amount)
            continue
        rest = amount
        if with_free and (price.free_events is None or index < price.free_events):
            covered = amount if left is None else min(left, amount)
            left = None if left is None else EXACT.subtract(left, covered)
            free, rest = EXACT.add(free, covered), EXACT.subtract(amount, covered)
            if not rest:
                continue
        paid, paid_events = EXACT.add(paid, rest), paid_events + 1
        fee = EXACT.add(EXACT.multiply(rest, rate), price.fixed_amount)
        if price.event_minimum is not None and fee < price.event_minimum:
            lifted = EXACT.add(lifted, EXACT.subtract(price.event_minimum, fee))
        if price.event_maximum is not None and fee > price.event_maximum:
            cut = EXACT.add(cut, EXACT.subtract(fee, price.event_maximum))
    return _Sums(free, paid, paid_events, lifted, cut)
