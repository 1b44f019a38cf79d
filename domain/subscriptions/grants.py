"""When a subscription grants what its plan and its add-ons grant: every span in which they are held and not paused."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from domain.subscriptions.terms import addons_at, pause_at, phase_at, phase_edges, term_changes
from schemas.entitlements import EntitlementSpec
from schemas.subscription_life import Life, Sold


class GrantedSpan(NamedTuple):
    """What a phase of a plan, or so many `units` of an add-on, grants in `[start, end)`; `end` None: as long as nothing is
    changed.
    """

    start: datetime
    end: datetime | None
    entitlements: tuple[EntitlementSpec, ...]
    units: int = 1


def granted_spans(life: Life, sold: Sold, known_at: datetime) -> list[GrantedSpan]:
    """Those that are not over at `known_at`: of the plan in order, then of each add-on. What is to come is among them.

    None for a draft.
    """
    running = list(_running(life, sold))
    held = (GrantedSpan(start, end, phase_at(life, sold, start).entitlements) for start, end in running)
    granted = _joined(held, known_at)
    for version_id in dict.fromkeys(addon.addon_version_id for addon in life.addons):
        entitlements = sold.addons[version_id].entitlements
        units = ((start, end, addons_at(life, start).get(version_id)) for start, end in running)
        held = (GrantedSpan(start, end, entitlements, each.quantity) for start, end, each in units if each is not None)
        granted += _joined(held, known_at)
    return granted


def _running(life: Life, sold: Sold) -> Iterator[tuple[datetime, datetime | None]]:
    """The spans of its time that are not paused, cut wherever its terms change."""
    if life.start_at is None:
        return
    end = None if life.cancellation is None else life.cancellation.end_at
    edges = {at for at, _ in term_changes(life)} | {at for pause in life.pauses for at in (pause.start, pause.end)}
    edges |= {life.trial_end_at, *phase_edges(life, sold)}
    within = sorted(at for at in edges if at is not None and life.start_at < at and (end is None or at < end))
    for left, right in pairwise([life.start_at, *within, end]):
        if left is not None and (right is None or left < right) and pause_at(life, left) is None:
            yield left, right


def _joined(spans: Iterable[GrantedSpan], known_at: datetime) -> list[GrantedSpan]:
    """Those that follow one another unchanged as one, without what is over."""
    joined: list[GrantedSpan] = []
    for span in spans:
        last = joined[-1] if joined else None
        if last is not None and (last.end, *last[2:]) == (span.start, *span[2:]):
            joined[-1] = last._replace(end=span.end)
        else:
            joined.append(span)
    return [span for span in joined if span.end is None or span.end > known_at]
