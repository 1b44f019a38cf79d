"""Writing a Faust table from a batch: the private steps, in one place."""

import asyncio
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from faust import streams as faust_streams

_DRAIN_STEP_S = 0.01


class NotOwnedError(Exception):
    """The group has moved on since the event was fetched: whoever owns its partition now gets it again."""


@contextmanager
def bind_event(event: Any) -> Iterator[None]:
    """Within the block, table writes belong to `event`: its partition takes the changelog records.

    Faust refuses writes "outside of stream iteration", which a batch is. Group a batch by partition and bind the last
    event of each group.
    """
    token = faust_streams._current_event.set(weakref.ref(event))  # noqa: SLF001
    try:
        yield
    finally:
        faust_streams._current_event.reset(token)  # noqa: SLF001


def is_current(event: Any) -> bool:
    """Whether the event was fetched in the consumer group's present generation, as far as this worker knows."""
    return bool(event.message.generation_id == event.app.consumer_generation_id)


def require_current(event: Any) -> None:
    """Raises NotOwnedError for an event of a former generation.

    Checked right before a table is written: the partition may have been another's since, and what was recovered from it
    must not be written over by what was computed before.
    """
    if not is_current(event):
        raise NotOwnedError(f"{event.message.tp} was fetched in generation {event.message.generation_id}")


async def drain(app: Any, sent: Sequence[Any] = ()) -> None:
    """Return once every changelog record is acknowledged; raises what the broker said of one of `sent` that is not.

    Faust's own flush gives up after 0.1 s without progress, so a commit could pass a record that is still queued; and
    no flush tells of a record that failed.
    """
    while app.producer.buffer.size:
        await app.producer.flush()
        await asyncio.sleep(_DRAIN_STEP_S if app.producer.buffer.size else 0)
    await app.producer.flush()
    for one in sent:
        await one
