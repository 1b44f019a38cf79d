"""When a subscription grants what its plan and its add-ons grant: every span in which they are held and not paused."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from domain.subscriptions.terms import addons_at, pause_at, plan_at, term_changes
from schemas.subscription_life import Life


class GrantedSpan(NamedTuple):
    """`units` of one version of a plan (always 1) or of an add-on in `[start, end)`; `end` None: as long as nothing is
    changed.
    """

    start: datetime
    end: datetime | None
    version_id: str
    units: int = 1


def granted_plans(life: Life, known_at: datetime) -> list[GrantedSpan]:
    """Those that are not over at `known_at`, in order; what is to come is among them. None for a draft."""
    held = (GrantedSpan(start, end, plan_at(life, start).plan_version_id) for start, end in _running(life))
    return _joined(held, known_at)


def granted_addons(life: Life, known_at: datetime) -> list[GrantedSpan]:
    """As `granted_plans`, of each add-on in turn."""
    spans = list(_running(life))
    granted: list[GrantedSpan] = []
    for version_id in dict.fromkeys(addon.addon_version_id for addon in life.addons):
        units = ((start, end, addons_at(life, start).get(version_id)) for start, end in spans)
        held = (GrantedSpan(start, end, version_id, each.quantity) for start, end, each in units if each is not None)
        granted += _joined(held, known_at)
    return granted


def _running(life: Life) -> Iterator[tuple[datetime, datetime | None]]:
    """The spans of its time that are not paused, cut wherever its terms change."""
    if life.start_at is None:
        return
    end = None if life.cancellation is None else life.cancellation.end_at
    edges = {at for at, _ in term_changes(life)} | {at for pause in life.pauses for at in (pause.start, pause.end)}
    within = sorted(at for at in edges if at is not None and life.start_at < at and (end is None or at < end))
    for left, right in pairwise([life.start_at, *within, end]):
        if left is not None and (right is None or left < right) and pause_at(life, left) is None:
            yield left, right


def _joined(spans: Iterable[GrantedSpan], known_at: datetime) -> list[GrantedSpan]:
    """Those that follow one another unchanged as one, without what is over."""
    joined: list[GrantedSpan] = []
    for span in spans:
        last = joined[-1] if joined else None
        if last is not None and (last.end, last.version_id, last.units) == (span.start, span.version_id, span.units):
            joined[-1] = last._replace(end=span.end)
        else:
            joined.append(span)
    return [span for span in joined if span.end is None or span.end > known_at]
