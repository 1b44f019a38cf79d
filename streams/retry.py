"""Waiting in place for a service that is away, for a bounded time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from domain.errors import Unavailable
from runtime import metrics

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]
Monotonic = Callable[[], float]

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0

_log = structlog.get_logger(__name__)


async def until_available(
    attempt: Callable[[], Awaitable[T]],
    budget_s: float,
    *,
    sleep: Sleep = asyncio.sleep,
    monotonic: Monotonic = time.monotonic,
    step: str = "",
) -> T:
    """The first answer of `attempt`, which must be safe to repeat. `Unavailable` is retried with doubling waits.

    The budget is time that passes, so slow attempts count as the waits between them do. An attempt that fails
    `budget_s` after the first one began, or later, raises its `Unavailable`: the worker then exits unacknowledged, so
    that the group moves on before the broker loses patience. An attempt under way at that moment is not cut off: its own
    time-outs bound it.
    """
    began_at, wait_s = monotonic(), FIRST_WAIT_S
    waiting_for = ""
    try:
        while True:
            try:
                return await attempt()
            except Unavailable as unavailable:
                left_s = began_at + budget_s - monotonic()
                if left_s <= 0:
                    raise
                if unavailable.service != waiting_for:
                    _told(waiting_for, unavailable, step)
                    waiting_for = unavailable.service
            await sleep(min(wait_s, left_s))
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)
    finally:
        if waiting_for:
            metrics.worker_waiting.labels(waiting_for).dec()


def services_away() -> list[str]:
    """The services that a step of this process is waiting for now."""
    [waiting] = metrics.worker_waiting.collect()
    return sorted(sample.labels["service"] for sample in waiting.samples if sample.value > 0)


def _told(former: str, unavailable: Unavailable, step: str) -> None:
    _log.warning("waiting for a service", service=unavailable.service, step=step, reason=unavailable.message)
    if former:
        metrics.worker_waiting.labels(former).dec()
    metrics.worker_waiting.labels(unavailable.service).inc()
