"""The table `balances`: customers and the progress of each partition; recovered by the greatest version."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import faust
import msgspec

from domain.identity import customer_partition
from schemas.balances import CustomerBalances, DeltasProgress, Version, Versioned
from schemas.topics import BALANCES_TABLE
from streams.app import App, table_options
from streams.tables import bind_event, drain

_PROGRESS = "@progress/"

_encoder = msgspec.json.Encoder()
_customers = msgspec.json.Decoder(CustomerBalances)
_progress = msgspec.json.Decoder(DeltasProgress)
_versioned = msgspec.json.Decoder(Versioned)

T = TypeVar("T")


def newest(events: Iterable[Any], stored: Any) -> list[Any]:
    """Changelog records without those that are older than what `stored(event)` or an earlier one of them says.

    protocol 9: a worker that lost its partition may still write to the changelog; its record comes last, but its version
    is smaller.
    """
    versions: dict[tuple[int, bytes], Version] = {}
    kept = []
    for event in events:
        place = (event.message.partition, event.message.key)
        known = versions[place] if place in versions else _version(stored(event))
        version = _version(event.message.value)
        if version >= known:
            kept.append(event)
        versions[place] = max(version, known)
    return kept


def _version(value: bytes | None) -> Version:
    return (-1, -1) if value is None else _versioned.decode(value).version


class GreatestTable(faust.Table):  # type: ignore[type-arg]  # keys and values are bytes
    """A table whose recovery keeps the greatest version of each key, not the last record."""

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        super().apply_changelog_batch(newest(batch, self._stored))

    def _stored(self, event: Any) -> bytes | None:
        with bind_event(event):
            value: bytes | None = self.data.get(event.message.key)
        return value


class BalancesTable:
    """The table as data. Reads and writes of a partition are bound to one of its events."""

    def __init__(self, app: App, partitions: int) -> None:
        self._app = app
        self._partitions = partitions
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

    def customers_of(self, partition: int) -> Iterator[tuple[str, CustomerBalances]]:
        """Every customer of an owned partition, from the local store."""
        for key, value in self._table.items():
            text = key.decode()
            if text.startswith(_PROGRESS):
                continue
            if _partition_of(text, self._partitions) == partition:
                yield text, _customers.decode(value)

    def write(self, event: Any, customers: dict[str, CustomerBalances], progress: DeltasProgress | None) -> None:
        """One write a key; the changelog's records leave with `drained`."""
        with bind_event(event):
            for key, balances in customers.items():
                self._table[key.encode()] = _encoder.encode(balances)
            if progress is not None:
                self._table[_progress_key(event.message.partition)] = _encoder.encode(progress)

    async def drained(self) -> None:
        """Returns once the changelog has everything that was written."""
        await drain(self._app)


def _partition_of(name: str, partitions: int) -> int:
    tenant, environment, customer_id = name.split("/", 2)
    return customer_partition(tenant, environment, customer_id, partitions)


def _progress_key(partition: int) -> bytes:
    return f"{_PROGRESS}{partition}".encode()
