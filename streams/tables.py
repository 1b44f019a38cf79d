"""Writing a Faust table from a batch: the one private step, in one place."""

import asyncio
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from faust import streams as faust_streams

_DRAIN_STEP_S = 0.01


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


async def drain(app: Any) -> None:
    """Return once every changelog record is acknowledged.

    Faust's own flush gives up after 0.1 s without progress, so a commit could pass a record that is still queued.
    """
    while app.producer.buffer.size:
        await app.producer.flush()
        await asyncio.sleep(_DRAIN_STEP_S if app.producer.buffer.size else 0)
    await app.producer.flush()
