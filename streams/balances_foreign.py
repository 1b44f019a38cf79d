"""What a former owner still wrote after its partition was taken over: outlived, so that compaction keeps the newer record.

Readers keep the greatest version (protocol 9), as long as it is there: compaction keeps the last record of a key. An owner
sees foreign records by the holes between the offsets of its own, and writes once more what they came after.
"""

from typing import Any

import structlog

from runtime import metrics
from schemas.topics import BALANCES_CHANGELOG, ENTITLEMENTS_STATE
from streams.balances_owned import Owned
from streams.balances_table import BalancesTable, version_of
from streams.partition_reader import PartitionReader
from streams.tables import NotOwnedError, require_current

_log = structlog.get_logger(__name__)


class Foreign:
    """Safe to repeat: a hole is forgotten once it was looked at."""

    def __init__(self, table: BalancesTable, reader: PartitionReader) -> None:
        self._table = table
        self._reader = reader

    async def outlive(self, partition: int, event: Any, owned: Owned) -> None:
        """Before a batch is folded. Raises Unavailable; NotOwnedError when the partition is another's by now."""
        tenure, _ = owned.version
        for first, last in self._table.holes(partition):
            written = 0
            async for records in self._reader.read(BALANCES_CHANGELOG, partition, first, last):
                require_current(event)
                if any(version_of(record.value)[0] > tenure for record in records):
                    raise NotOwnedError(f"{BALANCES_CHANGELOG}/{partition} has records of a later owner")
                written += sum(self._table.outlive(event, record.key, record.value) for record in records)
            await self._table.drained()
            self._table.hole_seen(partition)
            _told(BALANCES_CHANGELOG, partition, written)
        while owned.state_holes:
            first, last = owned.state_holes[0]
            names: set[str] = set()
            async for records in self._reader.read(ENTITLEMENTS_STATE, partition, first, last):
                for record in records:
                    if not record.key.startswith(b"@") and version_of(record.value)[0] < tenure:
                        names.add(record.key.decode())
            owned.retold |= names
            owned.state_holes.pop(0)
            _told(ENTITLEMENTS_STATE, partition, len(names))


def _told(topic: str, partition: int, records: int) -> None:
    if records:
        metrics.balances_outlived.inc(records)
        _log.warning(
            "a former owner wrote late; its records are outlived", topic=topic, partition=partition, records=records
        )
