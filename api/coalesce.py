"""From accepted events to acknowledged records of usage.raw."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import msgspec
from msgspec import Raw

from domain.errors import Unavailable
from runtime import metrics
from schemas.topics import (
    FORMAT,
    HEADER_ENVIRONMENT,
    HEADER_FORMAT,
    HEADER_RECEIVED_AT_MS,
    HEADER_TENANT,
    HEADER_VERSION,
    USAGE_RAW,
)

_BRACKETS = 2


class RecordSender(Protocol):
    async def send(
        self,
        topic: str,
        partition: int,
        *,
        value: bytes,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> object:
        """Returns once the record is acknowledged by all in-sync replicas. Raises Unavailable."""
        ...

    async def send_all(
        self, topic: str, records: Sequence[tuple[int, bytes]], *, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        """As `send` of each partition and value, all on their way at once. Raises Unavailable once all are settled."""
        ...


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What a record says about all its events: whose they are, when they were received, by which catalog judged."""

    tenant: str
    environment: str
    received_at_ms: int
    version: int

    def headers(self) -> list[tuple[str, bytes]]:
        return [
            (HEADER_TENANT, self.tenant.encode()),
            (HEADER_ENVIRONMENT, self.environment.encode()),
            (HEADER_RECEIVED_AT_MS, b"%d" % self.received_at_ms),
            (HEADER_FORMAT, FORMAT),
            (HEADER_VERSION, b"%d" % self.version),
        ]


def records_of(events: Sequence[bytes | Raw], record_max_bytes: int) -> Iterator[bytes]:
    """JSON arrays of the encoded events, in order; each at most `record_max_bytes` long, or of one event."""
    begin, size = 0, _BRACKETS
    for index, length in enumerate(map(len, map(memoryview, events))):  # type: ignore[arg-type]
        if size + length > record_max_bytes and index > begin:
            yield b"[%b]" % b",".join(events[begin:index])
            begin, size = index, _BRACKETS
        size += length + 1
    if begin < len(events):
        yield b"[%b]" % b",".join(events[begin:])


class _Pending(msgspec.Struct, kw_only=True):
    """A record that is being filled while the one before it is in flight."""

    origin: Origin
    events: list[bytes | Raw] = []
    size: int = _BRACKETS
    # One for each request. An error is a result: raised by all of them it would gather all their frames, with all bodies.
    waiting: "list[asyncio.Future[Unavailable | None]]" = []


class _Lane(msgspec.Struct, kw_only=True):
    """What goes to one partition for one tenant and environment."""

    sending: int = 0
    pending: _Pending | None = None


class RecordWriter:
    """Writes accepted events and returns when the log has them (acks=all).

    Safe to repeat: an event that comes again meets its identity in its partition and is counted as a duplicate. So when
    only some of a request's records were acknowledged the whole request fails, and its client sends all of it again.
    """

    def __init__(self, sender: RecordSender, record_max_bytes: int) -> None:
        self._sender = sender
        self._record_max_bytes = record_max_bytes
        self._lanes: dict[tuple[str, str, int], _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def write_groups(self, groups: Mapping[int, Sequence[bytes | Raw]], origin: Origin) -> None:
        """The events of one request, by partition. Raises Unavailable unless every record is acknowledged."""
        records = [
            (partition, record)
            for partition, events in groups.items()
            for record in records_of(events, self._record_max_bytes)
        ]
        await self._sender.send_all(USAGE_RAW, records, headers=origin.headers())
        metrics.ingest_records.inc(len(records))

    def receipt_to_join(self, tenant: str, environment: str, partition: int) -> int | None:
        """The receipt time of the record that the next single event would join; None when it begins its own."""
        lane = self._lanes.get((tenant, environment, partition))
        return lane.pending.origin.received_at_ms if lane is not None and lane.pending is not None else None

    async def write_single(self, partition: int, event: bytes | Raw, origin: Origin) -> None:
        """One event of a request of its own; it shares a record with those that come while a record is in flight.

        It takes the receipt time of the record that it joins (`receipt_to_join`: the caller has judged it by that). It
        waits no longer than it would for its own record, which could not be sent sooner in order.
        """
        key = (origin.tenant, origin.environment, partition)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane()
        pending = lane.pending
        size = memoryview(event).nbytes
        if pending is not None and pending.size + size > self._record_max_bytes:
            self._flush(key, lane)
            pending = None
        if pending is None:
            pending = lane.pending = _Pending(origin=origin)
        elif origin.version > pending.origin.version:
            # The worker waits for the newest catalog that any event of the record was judged by (protocol 7).
            pending.origin = msgspec.structs.replace(pending.origin, version=origin.version)
        pending.events.append(event)
        pending.size += size + 1
        # Its own: a client that goes away takes back its waiting and nothing else.
        answered: asyncio.Future[Unavailable | None] = asyncio.get_running_loop().create_future()
        pending.waiting.append(answered)
        if not lane.sending:
            self._flush(key, lane)
        error = await answered
        if error is not None:
            raise Unavailable(error.service, error.message, error.retry_after_s)

    def _flush(self, key: tuple[str, str, int], lane: _Lane) -> None:
        pending, lane.pending = lane.pending, None
        if pending is None:
            return
        lane.sending += 1
        task = asyncio.create_task(self._send_pending(key, lane, pending))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_pending(self, key: tuple[str, str, int], lane: _Lane, pending: _Pending) -> None:
        outcome: Unavailable | None = None
        known = False
        try:
            record = b"[%b]" % b",".join(pending.events)
            await self._sender.send(USAGE_RAW, key[2], value=record, headers=pending.origin.headers())
            metrics.ingest_records.inc()
            known = True
        except Unavailable as error:
            outcome, known = error.with_traceback(None), True
        finally:
            for answered in pending.waiting:
                if not known:  # a bug above: nobody may wait for ever
                    answered.cancel()
                elif not answered.done():
                    answered.set_result(outcome)
            lane.sending -= 1
            if not lane.sending:
                self._flush(key, lane)
            if not lane.sending:
                self._lanes.pop(key, None)
