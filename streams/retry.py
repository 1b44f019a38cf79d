"""Waiting in place for a service that is away, for a bounded time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from domain.errors import Unavailable

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0

_log = structlog.get_logger(__name__)


async def until_available(
    attempt: Callable[[], Awaitable[T]], budget_s: float, *, sleep: Sleep = asyncio.sleep, step: str = ""
) -> T:
    """The first answer of `attempt`, which must be safe to repeat. `Unavailable` is retried with doubling waits.

    After `budget_s` of waiting the last `Unavailable` is raised: the worker then exits unacknowledged, so that the
    group moves on before the broker loses patience.
    """
    wait_s, waited_s = FIRST_WAIT_S, 0.0
    while True:
        try:
            return await attempt()
        except Unavailable as unavailable:
            if waited_s >= budget_s:
                raise
            if not waited_s:
                _log.warning(
                    "waiting for a service", service=unavailable.service, step=step, reason=unavailable.message
                )
        await sleep(wait_s)
        waited_s += wait_s
        wait_s = min(wait_s * 2, LONGEST_WAIT_S)
