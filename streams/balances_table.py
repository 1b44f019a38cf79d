"""The table `balances`: customers and the progress of each partition; recovered by the greatest version."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import faust
import msgspec

from schemas.balances import CustomerBalances, DeltasProgress, Version, Versioned
from schemas.topics import BALANCES_TABLE
from streams.app import App, table_options
from streams.tables import bind_event, drain, require_current

_PROGRESS = b"@progress/"

_encoder = msgspec.json.Encoder()
_customers = msgspec.json.Decoder(CustomerBalances)
_progress = msgspec.json.Decoder(DeltasProgress)
_versioned = msgspec.json.Decoder(Versioned)

_NOTHING: Version = (-1, -1)
_UNREADABLE: Version = (-2, -2)  # below what nothing is: whatever else wrote to the changelog is not recovered


def newest(events: Iterable[Any], stored: Any) -> list[Any]:
    """Changelog records without those that are older than what `stored(event)` or an earlier one of them says.

    protocol 9: a worker that lost its partition may still write to the changelog; its record comes last, but its version
    is smaller.
    """
    versions: dict[tuple[int, bytes], Version] = {}
    kept = []
    for event in events:
        place = (event.message.partition, event.message.key)
        known = versions[place] if place in versions else version_of(stored(event))
        version = version_of(event.message.value)
        if version >= known:
            kept.append(event)
        versions[place] = max(version, known)
    return kept


def version_of(value: bytes | None) -> Version:
    """The version of a record of the changelog or of the states."""
    if value is None:
        return _NOTHING
    try:
        return _versioned.decode(value).version
    except msgspec.DecodeError:
        return _UNREADABLE


class GreatestTable(faust.Table):  # type: ignore[type-arg]  # keys and values are bytes
    """A table whose recovery keeps the greatest version of each key, not the last record.

    The local store says up to where it has the changelog. Faust lets every record of its own move that mark; here it moves
    only over what the store has seen: records of another owner in between are a hole, which is to be looked at first.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sent: list[Any] = []
        self.holes: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        self._last: dict[int, int] = {}

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        events = list(batch)
        super().apply_changelog_batch(newest(events, self._stored))
        for tp, offset in {event.message.tp: event.message.offset for event in events}.items():
            self.data.set_persisted_offset(tp, offset)
            self._last[tp.partition] = offset
            self.holes.pop(tp.partition, None)

    def send_changelog(self, *args: Any, **kwargs: Any) -> Any:
        sent = super().send_changelog(*args, **kwargs)
        self.sent.append(sent)
        return sent

    def items_of(self, partition: int, first: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys from `first` on, in order, with their values, as the local store has them at this moment."""
        store: Any = self.data
        for key, value in store._db_for_partition(partition).items(from_key=first or None):  # noqa: SLF001
            if key != store.offset_key:
                yield key, value

    def _on_changelog_sent(self, fut: Any) -> None:
        place = fut.result()
        partition, offset = place.topic_partition.partition, place.offset
        known = self._last.get(partition)
        if known is None:
            persisted = self.data.persisted_offset(place.topic_partition)
            known = -1 if persisted is None else persisted
        if offset > known + 1:
            self.holes[partition].append((known + 1, offset - 1))
        self._last[partition] = offset
        if not self.holes.get(partition):
            super()._on_changelog_sent(fut)

    def _stored(self, event: Any) -> bytes | None:
        with bind_event(event):
            value: bytes | None = self.data.get(event.message.key)
        return value


class BalancesTable:
    """The table as data. Reads and writes of a partition are bound to one of its events."""

    def __init__(self, app: App, partitions: int) -> None:
        self._app = app
        self._table: Any = app.tables.add(
            GreatestTable(
                app,
                name=BALANCES_TABLE,
                beacon=app.tables.beacon,
                partitions=partitions,
                key_type=bytes,
                value_type=bytes,
                options=table_options(),
            )
        )

    def customer(self, event: Any, key: str) -> CustomerBalances | None:
        with bind_event(event):
            value = self._table.get(key.encode())
        return None if value is None else _customers.decode(value)

    def progress(self, event: Any) -> DeltasProgress | None:
        with bind_event(event):
            value = self._table.get(_progress_key(event.message.partition))
        return None if value is None else _progress.decode(value)

    def customers_of(self, partition: int, after: str = "") -> Iterator[tuple[str, CustomerBalances]]:
        """Every customer of an owned partition, or those after one, from the local store."""
        for key, value in self._table.items_of(partition, f"{after}\0".encode() if after else b""):
            if not key.startswith(_PROGRESS):
                yield key.decode(), _customers.decode(value)

    def write(self, event: Any, customers: dict[str, CustomerBalances], progress: DeltasProgress | None) -> None:
        """One write a key; the changelog's records leave with `drained`. Raises NotOwnedError, and writes nothing."""
        require_current(event)
        with bind_event(event):
            for key, balances in customers.items():
                self._table[key.encode()] = _encoder.encode(balances)
            if progress is not None:
                self._table[_progress_key(event.message.partition)] = _encoder.encode(progress)

    def holes(self, partition: int) -> list[tuple[int, int]]:
        """Offsets, first and last, of changelog records between this worker's own."""
        return list(self._table.holes.get(partition, ()))

    def hole_seen(self, partition: int) -> None:
        """The first of the holes is no more: the table is not older than what lies there."""
        del self._table.holes[partition][:1]

    def outlive(self, event: Any, key: bytes, value: bytes) -> bool:
        """Write what is held once more after an older record of the same key. Raises NotOwnedError."""
        require_current(event)
        with bind_event(event):
            held = self._table.get(key)
            if held is None or version_of(held) <= version_of(value):
                return False
            self._table[key] = held
        return True

    async def drained(self) -> None:
        """Returns once the changelog has everything that was written; raises when it has refused a record."""
        sent, self._table.sent = self._table.sent, []
        await drain(self._app, sent)


def _progress_key(partition: int) -> bytes:
    return _PROGRESS + b"%d" % partition
