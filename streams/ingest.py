"""The ingest agent: usage.raw into `events`, once each, whatever crashes.

Faust brings the records, holds the group membership and commits what was acknowledged; progress itself is the ledger's
(protocol 18). There is no Faust table here.
"""

import asyncio
import functools
from collections.abc import Mapping
from typing import Any, cast

import structlog
from faust.types import TP

from runtime import metrics
from schemas.topics import USAGE_RAW
from stores.rocks.errors import FilterDamaged
from streams.app import App, raw_topic
from streams.ingest_deps import IngestDeps
from streams.ingest_errors import BlockMismatchError, LedgerMismatchError, MendedError
from streams.ingest_filter import PartitionFilter
from streams.ingest_inbox import Inbox
from streams.ingest_partition import Partition, RejectStreakError
from streams.ingest_recovery import Recovery
from streams.log_reader import to_record
from streams.transport import Consumer

_MS = 1000
# Records that may wait for one partition, however small they are.
_INBOX_RECORDS = 4096

_log = structlog.get_logger(__name__)


class Ingest:
    """The partitions that this worker owns now, each with the task that writes its blocks."""

    def __init__(self, app: App, deps: IngestDeps) -> None:
        self._app = app
        self._deps = deps
        self._partitions: dict[int, Partition] = {}
        self.stopped: dict[TP, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._filters: dict[int, PartitionFilter] = {}
        self._opening = asyncio.Lock()
        self._inboxes: dict[int, Inbox] = {}
        self._stream: Any = None

    @property
    def progress(self) -> dict[int, int]:
        """Last done offset of every partition that is owned."""
        return {number: partition.done_offset for number, partition in self._partitions.items()}

    @property
    def _consumer(self) -> Consumer:
        return cast("Consumer", self._app.consumer)

    async def read(self, stream: Any) -> None:
        """The agent. Acknowledgements are made by the partitions, in order, once a block is done."""
        self._stream = stream.noack()
        async for event in self._stream.events():
            message = event.message
            inbox = self._inboxes.get(message.partition)
            if inbox is None:
                # Revoked a moment ago, and its new owner reads it; or refused, and fetched before it was paused.
                self._consumer.pause_partitions({message.tp} & self.stopped.keys())
                continue
            inbox.post(to_record(message, round(message.timestamp * _MS)), event)

    async def on_assigned(self, *_: Any, **__: Any) -> None:
        """After a rebalance: take every partition over anew, under the group's new generation (protocol 19)."""
        await self.drop_all()
        consumer = self._consumer
        assignment = {tp for tp in consumer.assignment() if tp.topic == USAGE_RAW}
        if not assignment:
            return
        generation = self._app.consumer_generation_id
        committed = await consumer.kafka_committed()
        await self._deps.catalog.caught_up(self._deps.budget_s)
        numbers = sorted(tp.partition for tp in assignment)
        taken = await asyncio.gather(
            *(self._take_over_or_say_why(tp.partition, generation, committed[tp]) for tp in sorted(assignment))
        )
        if self._app.consumer_generation_id != generation:
            return  # another rebalance came meanwhile, and with it another take-over
        self._partitions, self._inboxes = {}, {}
        for number, one in zip(numbers, taken, strict=True):
            if isinstance(one, Partition):
                self._partitions[number] = one
            else:
                self._refuse(number, one, generation, committed[TP(USAGE_RAW, number)])
        self._inboxes = {number: Inbox(partition.accept) for number, partition in self._partitions.items()}
        for number, partition in self._partitions.items():
            for name, work in (("partition", partition.run()), ("inbox", self._inboxes[number].feed())):
                task = asyncio.create_task(work, name=f"{name} {number}")
                self._tasks.add(task)
                task.add_done_callback(self._ended)
        # protocol 16: Kafka's commit follows the ledger, else the lag looks stuck.
        ahead = {TP(USAGE_RAW, number): one.done_offset + 1 for number, one in self._partitions.items()}
        await consumer.commit_positions({tp: offset for tp, offset in ahead.items() if offset > committed[tp]})

    async def positions(self, assignment: set[TP]) -> Mapping[TP, int]:
        """Where Faust is to go on, whenever it begins to read: after what it has handed over (protocol 18)."""
        return {
            tp: max(self._partitions[tp.partition].next_offset, self._inboxes[tp.partition].next_offset)
            for tp in assignment
            if tp.topic == USAGE_RAW and tp.partition in self._partitions
        }

    def is_full(self, tp: TP) -> bool:
        """Whether so much waits for a partition that no more of it is to be fetched: all together stay below the bound."""
        inbox = self._inboxes.get(tp.partition) if tp.topic == USAGE_RAW else None
        if inbox is None:
            return False
        share = self._deps.settings.worker.buffer_max_bytes // len(self._inboxes)
        return inbox.bytes > share or len(inbox) > _INBOX_RECORDS

    async def drop_all(self, *_: Any, **__: Any) -> None:
        """Forget open blocks and stop writing: what is not done is read again by whoever owns the partition next."""
        for tp in self.stopped:
            metrics.worker_partition_stopped.remove(str(tp.partition))
        self.stopped.clear()  # whoever owns them next finds what is to be found
        tasks, self._tasks = self._tasks, set()
        partitions, self._partitions = self._partitions, {}
        self._inboxes = {}
        for partition in partitions.values():
            partition.close()  # its inbox may be waiting for room
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for duplicates in list(self._filters.values()):
            await duplicates.stop()

    async def close(self) -> None:
        await self.drop_all()
        self._deps.evaluation.shutdown(wait=True)
        for duplicates in self._filters.values():
            duplicates.duplicates.close()
        self._filters = {}

    async def _take_over(self, number: int, generation: int, committed: int) -> Partition:
        place = TP(USAGE_RAW, number)

        async def is_owner() -> bool:
            return await self._consumer.commit_positions({place: committed})

        async def attempt() -> Partition:
            async with self._opening:
                if number not in self._filters:
                    self._filters[number] = await PartitionFilter.opened(self._deps, number, self._ended)
            filter_ = self._filters[number]
            recovery = Recovery(self._deps, number, generation, filter_, lambda: self._is_drained(number), is_owner)
            return await recovery.take_over(committed)

        try:
            return await attempt()
        except FilterDamaged as damaged:
            # What it held is in `events` and in the log: an empty one is brought up from there.
            metrics.worker_filters_discarded.inc()
            _log.error("threw a duplicate filter away", partition=number, reason=str(damaged))
            del self._filters[number]
        return await attempt()

    async def _take_over_or_say_why(
        self, number: int, generation: int, committed: int
    ) -> "Partition | BlockMismatchError | LedgerMismatchError":
        try:
            return await self._take_over(number, generation, committed)
        except (BlockMismatchError, LedgerMismatchError) as mismatch:
            return mismatch

    def _refuse(self, number: int, mismatch: Exception, generation: int, committed: int) -> None:
        """A store was restored, or a block cannot be completed: a person decides. The other partitions go on."""
        tp = TP(USAGE_RAW, number)
        self.stopped[tp] = str(mismatch)
        self._consumer.pause_partitions({tp})
        metrics.worker_partition_stopped.labels(str(number)).set(1)
        _log.critical("a partition is refused: nothing of it is counted", partition=number, reason=str(mismatch))
        task = asyncio.create_task(self._until_mended(number, generation, committed), name=f"refused {number}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def _until_mended(self, number: int, generation: int, committed: int) -> None:
        """Ask again now and then. Raises MendedError once it can be taken over: a new process reads from its position."""
        while True:
            await asyncio.sleep(self._deps.settings.ingest.refused_retry_s)
            found = await self._take_over_or_say_why(number, generation, committed)
            if isinstance(found, Partition):
                raise MendedError(f"partition {number} can be taken over again: the worker starts anew")
            self.stopped[TP(USAGE_RAW, number)] = str(found)

    def _is_drained(self, number: int) -> bool:
        """Whether everything of a partition that was fetched has been accepted: nothing waits in this worker."""
        flowing = self._consumer.flow_active and not self._app.rebalancing
        handed_over = self._stream is not None and self._stream.channel.queue.empty()
        return flowing and handed_over and not self._inboxes.get(number)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        is_current = task in self._tasks
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, RejectStreakError):
            if is_current:  # else of a tenure that has ended
                self._stop(error)
            return
        _log.critical("a partition failed: the worker exits with its block unacknowledged", exc_info=error)
        crash = asyncio.ensure_future(self._app.crash(error))
        self._tasks.add(crash)
        crash.add_done_callback(self._tasks.discard)

    def _stop(self, error: RejectStreakError) -> None:
        """The brake: this partition is read no further, and nothing of it is acknowledged; the others go on."""
        tp = TP(USAGE_RAW, error.partition)
        self._partitions[error.partition].close()
        self._consumer.pause_partitions({tp})
        self.stopped[tp] = str(error)
        metrics.worker_partition_stopped.labels(str(error.partition)).set(1)
        _log.critical(
            "the brake: a partition stops instead of rejecting on",
            partition=error.partition,
            reason=str(error),
            done_offset=self._partitions[error.partition].done_offset,
            release="mend the producer, then raise METERSTREAM_INGEST_REJECT_STREAK_MAX and start the worker again",
        )


def register(app: App, deps: IngestDeps) -> Ingest:
    """Put the agent and its hooks on the app."""
    role = Ingest(app, deps)
    topic = raw_topic(app, USAGE_RAW, deps.partitions)
    app.agent(topic, name="meterstream.ingest", concurrency=1)(functools.partial(_agent, role))
    app.positions = role.positions
    app.stopped = role.stopped
    app.is_full = role.is_full
    app.on_partitions_revoked.connect(role.drop_all)
    app.on_rebalance_complete.connect(role.on_assigned)
    app.on_before_shutdown.connect(role.drop_all)
    return role


async def _agent(role: Ingest, stream: Any) -> None:
    await role.read(stream)
