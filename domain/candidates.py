"""The sound events of a block before they are judged: kept as columns, since making an object of each took a fifth of
the time that a block took.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from struct import Struct as Packing
from typing import Any, TypeVar, overload

import msgspec
import numpy as np

from domain.records import MS_PER_DAY, LogRecord
from schemas.events import UsageEvent

T = TypeVar("T")

# Bytes that compare as the positions do.
_POSITION = Packing(">QI")
_POSITIONS = np.dtype([("offset", ">u8"), ("index", ">u4")])


def pack_position(offset: int, index: int) -> bytes:
    return _POSITION.pack(offset, index)


def unpack_position(position: bytes) -> tuple[int, int]:
    offset, index = _POSITION.unpack(position)
    return offset, index


def pack_positions(offsets: Sequence[int], indexes: Sequence[int]) -> list[bytes]:
    """`pack_position` of each pair."""
    packed = np.empty(len(offsets), _POSITIONS)
    packed["offset"], packed["index"] = offsets, indexes
    whole, size = packed.tobytes(), _POSITIONS.itemsize
    return [whole[at : at + size] for at in range(0, len(whole), size)]


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A sound event of this partition that is stored unless an earlier copy is known."""

    record: LogRecord
    index: int
    event: UsageEvent
    tenant: str
    environment: str
    identity: bytes
    position: bytes

    @property
    def log_day(self) -> int:
        return self.record.logged_at_ms // MS_PER_DAY


class EventColumns(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Sound events of a record, a sequence a column. `time_ms` is the receipt time where `time` is None."""

    id: Sequence[str]
    type: Sequence[str]
    customer: Sequence[str]
    source: Sequence[str]
    time: Sequence[datetime | None]
    time_ms: Sequence[int]
    properties: Sequence[dict[str, Any]]


class _Columns(msgspec.Struct, gc=False):
    id: list[str] = []
    type: list[str] = []
    customer: list[str] = []
    source: list[str] = []
    time: list[datetime | None] = []
    time_ms: list[int] = []
    properties: list[dict[str, Any]] = []


class Candidates(Sequence[Candidate]):
    """Candidates in the order of the log: a list a column, and as a sequence what each of them is."""

    def __init__(self) -> None:
        self.events = _Columns()
        self.tenant: list[str] = []
        self.environment: list[str] = []
        self.identity: list[bytes] = []
        self.indexes: list[int] = []
        self.record: list[LogRecord] = []
        self.received_at_ms: list[int] = []
        self.logged_at_ms: list[int] = []
        self.offset: list[int] = []
        self._position: list[bytes] = []

    def add(
        self, record: LogRecord, index: int, event: UsageEvent, time_ms: int, owner: tuple[str, str, bytes]
    ) -> None:
        """One event; `owner` is its tenant, its environment and its identity."""
        columns = self.events
        columns.id.append(event.id)
        columns.type.append(event.type)
        columns.customer.append(event.customer)
        columns.source.append(event.source)
        columns.time.append(event.time)
        columns.time_ms.append(time_ms)
        columns.properties.append(event.properties)
        tenant, environment, identity = owner
        self._add_of(record, range(index, index + 1), tenant, environment, (identity,))

    def add_all(self, record: LogRecord, events: EventColumns, identities: Sequence[bytes]) -> None:
        """All events of a trusted record."""
        columns = self.events
        columns.id.extend(events.id)
        columns.type.extend(events.type)
        columns.customer.extend(events.customer)
        columns.source.extend(events.source)
        columns.time.extend(events.time)
        columns.time_ms.extend(events.time_ms)
        columns.properties.extend(events.properties)
        self._add_of(record, range(len(identities)), record.tenant, record.environment, identities)

    def _add_of(
        self, record: LogRecord, indexes: range, tenant: str, environment: str, identities: Sequence[bytes]
    ) -> None:
        count = len(indexes)
        self.tenant.extend([tenant] * count)
        self.environment.extend([environment] * count)
        self.identity.extend(identities)
        self.indexes.extend(indexes)
        self.record.extend([record] * count)
        self.received_at_ms.extend([record.received_at_ms] * count)
        self.logged_at_ms.extend([record.logged_at_ms] * count)
        self.offset.extend([record.offset] * count)

    def chosen(self, places: Sequence[int]) -> "Candidates":
        """Those at `places`, ascending."""
        one, events = Candidates(), self.events

        def those(column: list[T]) -> list[T]:
            return [column[place] for place in places]

        one.events = _Columns(
            id=those(events.id),
            type=those(events.type),
            customer=those(events.customer),
            source=those(events.source),
            time=those(events.time),
            time_ms=those(events.time_ms),
            properties=those(events.properties),
        )
        one.tenant, one.environment = those(self.tenant), those(self.environment)
        one.identity, one.indexes, one.record = those(self.identity), those(self.indexes), those(self.record)
        one.received_at_ms, one.logged_at_ms = those(self.received_at_ms), those(self.logged_at_ms)
        one.offset = those(self.offset)
        one._position = those(self.position)
        return one

    @property
    def position(self) -> list[bytes]:
        """Packed; to be asked for once all are there."""
        if len(self._position) != len(self.indexes):
            self._position = pack_positions(self.offset, self.indexes)
        return self._position

    def __len__(self) -> int:
        return len(self.indexes)

    @overload
    def __getitem__(self, at: int) -> Candidate: ...
    @overload
    def __getitem__(self, at: slice) -> list[Candidate]: ...
    def __getitem__(self, at: int | slice) -> Candidate | list[Candidate]:
        if isinstance(at, slice):
            return [self[place] for place in range(*at.indices(len(self)))]
        events = self.events
        return Candidate(
            self.record[at],
            self.indexes[at],
            UsageEvent(
                id=events.id[at],
                type=events.type[at],
                customer=events.customer[at],
                source=events.source[at],
                time=events.time[at],
                properties=events.properties[at],
            ),
            self.tenant[at],
            self.environment[at],
            self.identity[at],
            self.position[at],
        )

    def __iter__(self) -> Iterator[Candidate]:
        return (self[place] for place in range(len(self)))
