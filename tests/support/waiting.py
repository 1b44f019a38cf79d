"""The one way in which tests wait."""

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, overload

T = TypeVar("T")


def eventually(check: Callable[[], T], within_s: float, *, every_s: float = 0.05) -> T:
    """The first truthy answer of `check`. An AssertionError in it counts as "not yet"; after `within_s` the test fails."""
    deadline = time.monotonic() + within_s
    while True:
        last: object
        try:
            answer = check()
        except AssertionError as error:
            last = error
        else:
            if answer:
                return answer
            last = answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s; last: {last!r}")
        time.sleep(every_s)


@overload
async def eventually_async(
    check: Callable[[], Coroutine[Any, Any, T]], within_s: float, *, every_s: float = 0.05
) -> T: ...
@overload
async def eventually_async(check: Callable[[], T], within_s: float, *, every_s: float = 0.05) -> T: ...
async def eventually_async(check: Callable[[], Any], within_s: float, *, every_s: float = 0.05) -> Any:
    """As `eventually`, for a check that may be a coroutine, without blocking the event loop."""
    deadline = time.monotonic() + within_s
    while True:
        last: object
        try:
            answer = check()
            if inspect.isawaitable(answer):
                answer = await answer
        except AssertionError as error:
            last = error
        else:
            if answer:
                return answer
            last = answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s; last: {last!r}")
        await asyncio.sleep(every_s)
