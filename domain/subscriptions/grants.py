"""When a subscription grants what its plan grants: every span in which a plan version is held and not paused."""

from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from domain.subscriptions.terms import pause_at, plan_at
from schemas.subscription_life import Life


class GrantedSpan(NamedTuple):
    """`[start, end)`; `end` None: as long as nothing is changed."""

    start: datetime
    end: datetime | None
    plan_version_id: str


def granted_spans(life: Life, known_at: datetime) -> list[GrantedSpan]:
    """Those that are not over at `known_at`, in order; what is to come is among them. None for a draft."""
    return [span for span in _joined(_spans(life)) if span.end is None or span.end > known_at]


def _spans(life: Life) -> Iterator[GrantedSpan]:
    if life.start_at is None:
        return
    end = None if life.cancellation is None else life.cancellation.end_at
    edges = {plan.at for plan in life.plans} | {at for pause in life.pauses for at in (pause.start, pause.end)}
    within = sorted(at for at in edges if at is not None and life.start_at < at and (end is None or at < end))
    for left, right in pairwise([life.start_at, *within, end]):
        if left is not None and (right is None or left < right) and pause_at(life, left) is None:
            yield GrantedSpan(left, right, plan_at(life, left).plan_version_id)


def _joined(spans: Iterator[GrantedSpan]) -> list[GrantedSpan]:
    joined: list[GrantedSpan] = []
    for span in spans:
        if joined and joined[-1].end == span.start and joined[-1].plan_version_id == span.plan_version_id:
            joined[-1] = joined[-1]._replace(end=span.end)
        else:
            joined.append(span)
    return joined
