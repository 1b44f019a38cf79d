r"""Records as the log has them, even where a header's name is no UTF-8: one foreign record must not stop its partition.

Kafka asks for UTF-8 there and no broker checks it. aiokafka raises while it unpacks such a record, so nobody who reads
the partition gets past it. Here the batch is unpacked once more, with such bytes spelled out (`\xff`): no name of ours
is spelled so, and the record is judged by the rest of it. `tests/integration/test_log_reader.py` fails when an upgrade
changes what it relies on.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record import default_records, memory_records

_WHOLE_BATCHES = memory_records._MemoryRecordsPy  # noqa: SLF001 - cuts the bytes into batches
_BATCH_IN_PYTHON = default_records._DefaultRecordBatchPy  # noqa: SLF001
_MAGIC_AT = _WHOLE_BATCHES.MAGIC_OFFSET
_MAGIC = 2


class _Spelled(bytearray):
    """Bytes whose slices decode whatever they are."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _Spelled(found) if isinstance(at, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002
        return super().decode(encoding, "backslashreplace")


class _Batch:
    """A batch of aiokafka, fast while it can be, and read once more where it cannot."""

    def __init__(self, batch: Any, content: memoryview) -> None:
        self._batch = batch
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        count = 0
        try:
            for record in self._batch:
                count += 1
                yield record
        except UnicodeDecodeError:
            again = _BATCH_IN_PYTHON(self._content)
            iter(again)  # decompresses
            again._buffer = _Spelled(again._buffer)  # noqa: SLF001
            for number, record in enumerate(again):
                if number >= count:
                    yield record


class Records:
    """What a fetch brought for one partition; takes the place of aiokafka's `MemoryRecords` in its fetcher."""

    def __init__(self, content: bytes) -> None:
        self._whole = memory_records.MemoryRecords(content)
        self._cut = _WHOLE_BATCHES(content)

    def size_in_bytes(self) -> int:
        return int(self._whole.size_in_bytes())

    def has_next(self) -> bool:
        return bool(self._whole.has_next())

    def next_batch(self) -> Any:
        batch = self._whole.next_batch()
        content = self._cut._next_slice  # noqa: SLF001
        self._cut._cache_next()  # noqa: SLF001
        if batch is None or content is None or content[_MAGIC_AT] < _MAGIC:  # older ones have no headers
            return batch
        return _Batch(batch, content)


def read_any_header() -> None:
    """From now on every consumer of this process reads such records. Safe to repeat."""
    fetcher.MemoryRecords = Records
