"""What a plan makes a worker suffer, mutated or not: to be held at a step, to lose a record, to lose an answer.

A gate is two files: `NAME.reached` is written when the worker comes to the step, and it goes on when `NAME.open` is there.
So a plan knows what the worker has done, and has all the time it wants.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from domain.errors import Unavailable
from stores.clickhouse import tokens
from stores.postgres.ledger import Ledger
from streams import app, ingest_writer
from streams.ingest import Ingest
from streams.ingest_partition import Partition
from streams.ingest_writer import BlockWriter

_POLL_S = 0.02


class Signs:
    """The files by which a plan and a worker understand each other."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def show(self, name: str) -> None:
        (self._directory / f"{name}.reached").touch()

    def is_shown(self, name: str) -> bool:
        return (self._directory / f"{name}.reached").exists()

    async def wait_at(self, name: str) -> None:
        self.show(name)
        while not (self._directory / f"{name}.open").exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(_POLL_S)


def suffer(faults: Sequence[str], signs: Signs) -> None:
    """Each fault is `NAME=VALUE`."""
    for fault in faults:
        name, _, value = fault.partition("=")
        FAULTS[name](value, signs)


def gate(step: str, signs: Signs) -> None:
    """Hold the worker before this step."""
    owner, name = GATES[step]
    held: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def after_the_gate(*args: Any, **kwargs: Any) -> Any:
        await signs.wait_at(step)
        return await held(*args, **kwargs)

    setattr(owner, name, after_the_gate)


def note(step: str, signs: Signs) -> None:
    """Show that the worker has taken this step."""
    owner, name = NOTES[step]
    taken: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def shown_after(*args: Any, **kwargs: Any) -> Any:
        answer = await taken(*args, **kwargs)
        signs.show(step)
        return answer

    setattr(owner, name, shown_after)


def lose(offset: str, signs: Signs) -> None:
    """The stream library drops this record from its queue, once."""
    accept = Partition.accept

    async def accept_others(self: Partition, record: Any, event: Any) -> None:
        if record.offset == int(offset) and not signs.is_shown("lost"):
            signs.show("lost")
            return
        await accept(self, record, event)

    setattr(Partition, "accept", accept_others)  # noqa: B010 - a method cannot be assigned to


def lose_answer(times: str, _: Signs) -> None:
    """The server writes the block, and its answer is lost."""
    insert_block, left = getattr(ingest_writer, "insert_block"), [int(times)]  # noqa: B009 - it is not exported

    async def unanswered(*args: Any, **kwargs: Any) -> None:
        await insert_block(*args, **kwargs)
        if left[0]:
            left[0] -= 1
            raise Unavailable("clickhouse", "the answer was lost, by the test")

    setattr(ingest_writer, "insert_block", unanswered)  # noqa: B010


def unaware(seconds: str, _: Signs) -> None:
    """The worker learns late that it has lost its partitions."""
    drop_all = Ingest.drop_all

    async def drop_late(self: Ingest, *args: Any, **kwargs: Any) -> None:
        if self.progress:
            await asyncio.sleep(float(seconds))
        await drop_all(self, *args, **kwargs)

    setattr(Ingest, "drop_all", drop_late)  # noqa: B010


def small_memory(least: str, _: Signs) -> None:
    """No more tokens are remembered than the settings need, not ten thousand at least."""
    tokens.MIN_WINDOW = int(least)


def group(name: str, _: Signs) -> None:
    """A consumer group of its own: the former one still waits for those that were killed."""
    app.APP_IDS["ingest"] = name


GATES: dict[str, tuple[Any, str]] = {
    "fence": (Ledger, "take_over"),
    "intent": (Ledger, "write_intent"),
    "insert": (ingest_writer, "insert_block"),
    "tell": (BlockWriter, "tell"),
}
NOTES: dict[str, tuple[Any, str]] = {"enter": (BlockWriter, "enter")}
FAULTS: dict[str, Callable[[str, Signs], None]] = {
    "gate": gate,
    "note": note,
    "lose": lose,
    "lose-answer": lose_answer,
    "unaware": unaware,
    "small-memory": small_memory,
    "group": group,
}
