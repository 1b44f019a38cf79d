"""Faust's Kafka transport with what the pinned version lacks: an idempotent producer and the cures of its assignment race.

Private parts of Faust 0.15.3 are touched here, in `streams/tables.py` and in `streams/balances_table.py` only;
`tests/integration/test_faust_contract.py` fails when an upgrade changes what they rely on.
"""

import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, ClassVar

from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stores.kafka_records import read_any_header

read_any_header()

# The owner's answer to an assignment: for each partition the offset to go on from.
Positions = Callable[[set[TP]], Awaitable[Mapping[TP, int]]]

# Whether so much of a source waits in the worker that no more of it is to be read.
IsFull = Callable[[TP], bool]

# How long a full buffer is left alone before it is looked at again.
_FULL_WAIT_S = 0.1


class Consumer(driver.Consumer):
    """The consumer of a worker. `positions`, where the app has it, overrides Kafka's committed offsets."""

    def on_buffer_drop(self, tp: TP) -> None:
        """As in Faust, but a partition that is paused stays paused.

        Without this a worker whose buffer was full reads its stream during a recovery, on a half-restored table and
        from the old position: up to a buffer of records is skipped, and committed.
        """
        if tp in self._paused_partitions:
            self._buffered_partitions.discard(tp)
            return
        super().on_buffer_drop(tp)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        """As in Faust, but no source is read while what waits for the agent is larger than `app.buffer_max_bytes`, and
        none that `app.is_full`.

        Faust counts records alone, and ours are of 200 bytes or of half a megabyte.
        """
        wanted = active_partitions
        if wanted and self._waiting_bytes() > getattr(self.app, "buffer_max_bytes", math.inf):
            wanted = {tp for tp in wanted if not self.app.topics.acks_enabled_for(tp.topic)}
        is_full: IsFull | None = getattr(self.app, "is_full", None)
        if wanted and is_full is not None:
            wanted = {tp for tp in wanted if not is_full(tp)}
        if active_partitions and not wanted:
            await self.sleep(_FULL_WAIT_S)
            return {}
        # Who was left out is not to wait for a record of the others.
        return await super()._getmany(wanted, timeout if wanted == active_partitions else min(timeout, _FULL_WAIT_S))

    def _waiting_bytes(self) -> int:
        conductor: Any = self.app.topics
        channels = {channel for tp in self.assignment() for channel in conductor._tp_index.get(tp, ())}  # noqa: SLF001
        return sum(len(event.message.value or b"") for channel in channels for event in _waiting(channel.queue))

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek to where the role says it stands (protocol 18: the ledger), else to the committed offsets.

        Faust calls it whenever it begins or begins again to read; what it returns becomes Faust's own idea of what is
        committed and read.
        """
        positions: Positions | None = getattr(self.app, "positions", None)
        assignment = self.assignment()
        if positions is None or not assignment:
            committed = await super().seek_to_committed()
            await self._seek_to_beginning_without_commit(committed)
            return committed
        offsets = await positions(assignment)
        await self.seek_wait(offsets)
        return offsets

    async def _seek_to_beginning_without_commit(self, committed: Mapping[TP, int | None]) -> None:
        """Before a partition's first commit Faust would leave it where it was fetched to, past what it has dropped."""
        fresh = [tp for tp, offset in committed.items() if not offset and not self._is_changelog_tp(tp)]
        if fresh:
            await self.seek_wait(await self.earliest_offsets(*fresh))

    def committed(self, tp: TP) -> int | None:
        """The group's committed next offset, as it was when reading began or as this worker has moved it since."""
        return self._committed_offset.get(tp)

    async def kafka_committed(self) -> dict[TP, int]:
        """What Kafka has as committed for the assigned partitions: the next offset; 0 where nothing was committed."""
        committed = await super().seek_to_committed()
        return {tp: max(committed.get(tp) or 0, 0) for tp in self.assignment()}

    async def commit_positions(self, offsets: Mapping[TP, int]) -> bool:
        """Commit these next offsets now, whatever was acknowledged (protocol 16: else the lag looks stuck).

        False where the broker refused them: the group has moved on, and others own the partitions.
        """
        if not offsets:
            return True
        if not await self._commit(offsets):
            return False
        self._committed_offset.update(offsets)
        return True


def _waiting(queue: Any) -> Collection[Any]:
    waiting: Collection[Any] = queue._queue  # noqa: SLF001 - asyncio's own, which Faust clears in the same way
    return waiting


class Producer(driver.Producer):
    """Idempotent outside of transactions too: a broker restart neither doubles nor reorders what is sent."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


class Transport(driver.Transport):
    Consumer: ClassVar[type[Consumer]] = Consumer
    Producer: ClassVar[type[Producer]] = Producer
