"""What there is to bill of a span of time: for each rate card, the parts of its periods in which it held unchanged.

Periods of several cadences lie beside one another. The segments of one card tile the time in which it is held; a period
that a change cuts is billed by its parts, whose shares sum to the whole (`domain.proration`).
"""

from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

from msgspec.structs import replace

from domain.subscriptions.service_periods import service_period
from domain.subscriptions.terms import cards_at, in_trial, pause_at, phase_edges, term_changes
from schemas.subscription_life import HeldCard, Life, Segment, Sold


def segments(life: Life, sold: Sold, start: datetime, end: datetime) -> list[Segment]:
    """The segments of `[start, end)`, clipped to it, by start and then in the order of the plan's cards.

    Nothing before the subscription's start, and nothing from its end on; none for a draft.
    """
    first, last = span_of(life, start, end)
    found: list[Segment] = []
    for left, right in pairwise(_edges(life, sold, first, last)):
        for held in cards_at(life, sold, left):
            found += _cut(life, held, left, right)
    return _merged(found)


def span_of(life: Life, start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """The part of `[start, end)` in which the subscription runs; empty where it does not."""
    if life.start_at is None:
        return start, start
    last = end if life.cancellation is None else min(end, life.cancellation.end_at)
    return max(start, life.start_at), last


def held_cards(life: Life, sold: Sold) -> Iterator[HeldCard]:
    """Every rate card that the subscription ever holds or is to hold, some of them more than once."""
    edges = [life.start_at, *(at for at, _ in term_changes(life)), *phase_edges(life, sold)]
    for at in sorted({each for each in edges if each is not None}):
        yield from cards_at(life, sold, at)


def closed_at(life: Life, segment: Segment) -> datetime:
    """When the period of a segment has ended, and so what is billed in arrears falls due."""
    end_at = None if life.cancellation is None else life.cancellation.end_at
    return segment.period_end if end_at is None else min(segment.period_end, end_at)


def _edges(life: Life, sold: Sold, start: datetime, end: datetime) -> list[datetime]:
    """Where anything about the terms may change within `[start, end)`, with both ends."""
    if end <= start:
        return []
    edges = {at for at, _ in term_changes(life)}
    edges |= {at for pause in life.pauses for at in (pause.start, pause.end)}
    edges |= {life.trial_end_at, *phase_edges(life, sold)}
    return [start, *sorted(at for at in edges if at is not None and start < at < end), end]


def _cut(life: Life, held: HeldCard, start: datetime, end: datetime) -> Iterator[Segment]:
    """The span by the periods of the card."""
    trial, paused = in_trial(life, start), pause_at(life, start) is not None
    at = start
    while at < end:
        period = service_period(life, held.card.cadence, at)
        until = min(period.end, end)
        yield Segment(
            held=held,
            whole=period.whole,
            period_start=period.start,
            period_end=period.end,
            start=at,
            end=until,
            trial=trial,
            paused=paused,
        )
        at = until


def _merged(found: list[Segment]) -> list[Segment]:
    """Neighbours that differ in nothing are one: a change of one card cuts no other."""
    kept: list[Segment] = []
    open_at: dict[datetime, list[int]] = {}
    for segment in found:
        index = next(
            (each for each in open_at.get(segment.start, ()) if _continues(kept[each], segment)),
            None,
        )
        if index is None:
            index = len(kept)
            kept.append(segment)
        else:
            kept[index] = replace(kept[index], end=segment.end)
        open_at.setdefault(segment.end, []).append(index)
    return kept


def _continues(segment: Segment, following: Segment) -> bool:
    return replace(segment, start=following.start, end=following.end) == following
