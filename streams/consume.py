"""The loop of an agent with a Faust table: decode, prepare, step, emit, write tables, acknowledge, in this order.

Effects leave before state is written: a crash between them repeats an idempotent output; the other order would let the
guard in the state swallow it. Acknowledgements come last, in order, for the whole batch. Any exception leaves the whole
batch unacknowledged and ends the process (`CrashingSupervisor`); the next one replays from the last commit.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import structlog

from domain.errors import Invalid, NotFound
from streams.retry import Monotonic, Sleep, until_available
from streams.tables import NotOwnedError, is_current

D = TypeVar("D")
E = TypeVar("E")

MAX_BATCH = 500

_log = structlog.get_logger(__name__)


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """A record that cannot be decoded: to be emitted with its reason, then acknowledged. Never dropped in silence."""

    event: Any
    code: str
    message: str


class Steps(Protocol[D, E]):
    """What an agent does with a batch. `prepare`, `emit` and `write` must be safe to repeat."""

    def decode(self, event: Any) -> D:
        """The record as data. Raises Invalid or NotFound for what will never be readable."""
        ...

    async def prepare(self, decoded: Sequence[D]) -> None:
        """Load what the batch's partitions need. Raises Unavailable: it is then called again."""
        ...

    def step(self, decoded: Sequence[D]) -> E:
        """The effects and the new state of a batch: pure, and guarded by position."""
        ...

    async def emit(self, effects: E, rejected: Sequence[Rejection]) -> None:
        """Send what leaves and await its acknowledgement. Raises Unavailable: it is then called again."""
        ...

    async def write(self, effects: E, events: Sequence[Any]) -> None:
        """Write the tables under `bind_event` and drain the changelog. Raises NotOwnedError, and then writes nothing."""
        ...


class _Loop(Generic[D, E]):
    def __init__(self, steps: Steps[D, E], budget_s: float, sleep: Sleep, monotonic: Monotonic) -> None:
        self._steps = steps
        self._budget_s = budget_s
        self._sleep = sleep
        self._monotonic = monotonic

    async def batch(self, held: Sequence[Any]) -> None:
        """One batch. What is no longer current stays unacknowledged: whoever owns its partition gets it again, and an
        acknowledgement would commit past it.
        """
        events = [event for event in held if is_current(event)]
        if not events:
            return
        try:
            await self._whole(events)
        except NotOwnedError as moved:
            _log.info("a batch is another owner's by now", records=len(events), reason=str(moved))
            return
        for event in events:
            if is_current(event):
                event.ack()

    async def _whole(self, events: Sequence[Any]) -> None:
        decoded: list[D] = []
        rejected: list[Rejection] = []
        for event in events:
            try:
                decoded.append(self._steps.decode(event))
            except (Invalid, NotFound) as refused:
                rejected.append(Rejection(event=event, code=refused.code, message=refused.message))
        await self._available(lambda: self._steps.prepare(decoded), "prepare")
        effects = self._steps.step(decoded)
        await self._available(lambda: self._steps.emit(effects, rejected), "emit")
        await self._steps.write(effects, events)

    async def _available(self, attempt: Callable[[], Awaitable[None]], step: str) -> None:
        await until_available(attempt, self._budget_s, sleep=self._sleep, monotonic=self._monotonic, step=step)


async def consume(
    stream: Any,
    steps: Steps[D, E],
    *,
    budget_s: float,
    max_batch: int = MAX_BATCH,
    sleep: Sleep = asyncio.sleep,
    monotonic: Monotonic = time.monotonic,
) -> None:
    """Run `steps` over the stream for ever. A batch closes when it is full or nothing waits: no timer, no held record.

    Raises whatever a step raises (after the retry budget: Unavailable); nothing of the batch is acknowledged then.
    """
    loop = _Loop(steps, budget_s, sleep, monotonic)
    source = stream.noack()
    held: list[Any] = []
    try:
        async for event in source.events():
            held.append(event)
            if len(held) < max_batch and not source.channel.queue.empty():
                continue
            await loop.batch(held)
            held = []
    except Exception as error:
        _log.critical("a batch failed: the worker exits with it unacknowledged", records=len(held), error=repr(error))
        raise
