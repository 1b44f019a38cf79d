"""What a period of a subscription is billed for: each price with the spans in which it was held and charged."""

from collections.abc import Iterable, Sequence

from domain.rate_cards import cards_of_versions
from domain.subscriptions.segments import segments
from schemas.billing import BilledMeter, BilledPart, Span
from schemas.closing import ClosableSubscription, DuePeriod
from schemas.plans import Plan
from schemas.subscription_life import Life, Segment, Sold


def parts_of(held: ClosableSubscription, plan: Plan, period: DuePeriod) -> list[BilledPart]:
    """The parts of `period`; usage has no quantity yet. Where one plan version was held unchanged, one for each price.

    A fee has a part for each of its segments. Usage of one price in one period is rated together over the spans that are
    billed: it has one part. Nothing is billed for a pause.
    """
    if held.life is None or held.sold is None:
        return [
            BilledPart(price=price, quantity=price.quantity, start=period.start, end=period.end)
            for price in plan.prices
        ]
    return _parts(held.life, held.sold, period)


def _parts(life: Life, sold: Sold, period: DuePeriod) -> list[BilledPart]:
    charged = [
        segment
        for segment in segments(life, sold, period.start, period.end)
        if not segment.trial and not segment.paused
    ]
    used: dict[tuple[str, str | None], list[Segment]] = {}
    for segment in charged:
        used.setdefault(_sold_as(segment), []).append(segment)
    parts: list[BilledPart] = []
    for segment in charged:
        if segment.held.card.price.meter_id is None:
            parts.append(_part(segment, [segment], period))
        elif used[_sold_as(segment)][0] is segment:
            parts.append(_part(segment, used[_sold_as(segment)], period))
    return parts


def _sold_as(segment: Segment) -> tuple[str, str | None]:
    return segment.held.card.price.id, segment.held.addon_version_id


def _part(segment: Segment, together: Sequence[Segment], period: DuePeriod) -> BilledPart:
    spans = _joined((each.start, each.end) for each in together)
    whole = spans == [(period.start, period.end)]
    return BilledPart(
        price=segment.held.card.price,
        quantity=segment.held.quantity,
        times=segment.held.times,
        start=spans[0][0],
        end=spans[-1][1],
        spans=() if whole else tuple(spans),
    )


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Spans in order, those that touch as one."""
    joined: list[Span] = []
    for start, end in spans:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def place_of(held: ClosableSubscription, period: DuePeriod, part: BilledPart) -> BilledMeter | None:
    """What the usage of a part is called where that of many is read; None for a fee."""
    meter_id = part.price.meter_id
    return None if meter_id is None else BilledMeter(held.id, period.start, meter_id, part.spans)


def meters_sold(held: ClosableSubscription, plan: Plan) -> list[str]:
    """The meters of every price that the subscription ever holds or is to hold."""
    prices = list(plan.prices)
    if held.life is not None and held.sold is not None:
        versions = [held.sold.plans[each.plan_version_id] for each in held.life.plans]
        addons = [held.sold.addons[each.addon_version_id] for each in held.life.addons]
        prices += [card.price for card in cards_of_versions(versions, addons)]
    return list(dict.fromkeys(price.meter_id for price in prices if price.meter_id is not None))
