"""The duplicate filter of one partition: identity -> position of its first copy, by day of log time.

One RocksDB a partition, one column family a day, so that the entries of a block and the position it brings the filter
to are one atomic write even across midnight, and a day past the window is dropped whole. Losing it loses nothing: it is
rebuilt from `events` (protocol 11).
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    ColumnFamily,
    DBCompressionType,
    Options,
    Rdict,
    WriteBatch,
)

MIB = 1 << 20
_DEFAULT_FAMILY = "default"
_DAY_PREFIX = "day-"
_APPLIED = b"applied"
_TOPIC = b"topic"
_OFFSET_BYTES = 8
_BLOOM_BITS = 10


class FilterMemory:
    """The bound on what all filters of a process keep in memory: shared by every partition and day."""

    def __init__(self, *, block_cache_bytes: int = 32 * MIB, write_buffer_bytes: int = 8 * MIB) -> None:
        self._cache = Cache(block_cache_bytes)
        self._write_buffer_bytes = write_buffer_bytes

    def options(self) -> Options:
        table = BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_cache_index_and_filter_blocks(True)
        table.set_bloom_filter(_BLOOM_BITS, block_based=False)
        options = Options(raw_mode=True)
        options.create_if_missing(True)  # noqa: FBT003
        options.set_block_based_table_factory(table)
        options.set_write_buffer_size(self._write_buffer_bytes)
        options.set_max_write_buffer_number(2)
        options.set_max_open_files(64)
        options.set_compression_type(DBCompressionType.none())  # hashes do not compress
        options.set_keep_log_file_num(2)
        options.set_max_total_wal_size(64 * MIB)
        return options


class DuplicateFilter:
    """What one partition remembers. Not safe for concurrent use: its partition has one owner.

    Positions are packed (`domain.blocks.pack_position`): bytes that compare as the positions do. Every write is
    idempotent by identity: of two positions of one day the smaller stays (protocol 13).
    """

    def __init__(self, path: Path, memory: FilterMemory, topic_id: str) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._memory = memory
        self._path = path
        self._topic = topic_id.encode()
        self._families: dict[int, Rdict] = {}
        self._open()
        if self._db.get(_TOPIC) not in (None, self._topic):
            # protocol 5: a re-created topic reuses offsets; positions of its predecessor would take copies for firsts.
            self._wipe()
        self._db.put(_TOPIC, self._topic)

    @property
    def applied(self) -> int:
        """The last offset whose block is in the filter; -1 where there is none."""
        stored = self._db.get(_APPLIED)
        return -1 if stored is None else int.from_bytes(stored, "big", signed=True)

    @property
    def days(self) -> list[int]:
        return sorted(self._families)

    def earliest(self, identities: Sequence[bytes], day: int, window_days: int) -> list[bytes | None]:
        """For each identity the smallest position known in the log days `[day - window_days, day]`, or None."""
        found: list[bytes | None] = [None] * len(identities)
        if not identities:
            return found
        wanted: list[Any] = list(identities)
        for known in sorted(self._families):
            if not day - window_days <= known <= day:
                continue
            hits: Sequence[bytes | None] = self._families[known].get(wanted) or ()
            # Days ascend and positions with them, but a rebuild may have put the same one into two days: keep the least.
            for place, hit in enumerate(hits):
                if hit is not None:
                    held = found[place]
                    if held is None or hit < held:
                        found[place] = hit
        return found

    def apply(self, entries: Iterable[tuple[bytes, bytes, int]], last_offset: int) -> None:
        """Enter a block's first copies (identity, position, log day) and move `applied` on: one atomic write.

        Safe to repeat: the same block writes the same entries. `applied` never goes back.
        """
        batch = WriteBatch(raw_mode=True)
        handles: dict[int, ColumnFamily] = {}
        for identity, position, day in entries:
            handle = handles.get(day)
            if handle is None:
                handle = handles[day] = self._handle(day)
            batch.put(identity, position, handle)
        batch.put(_APPLIED, max(last_offset, self.applied).to_bytes(_OFFSET_BYTES, "big", signed=True))
        self._db.write(batch)

    def enter_earlier(self, entries: Sequence[tuple[bytes, bytes, int]], last_offset: int) -> None:
        """As `apply`, for entries read back from the store: a smaller position that is known already stays."""
        by_day: dict[int, list[tuple[bytes, bytes, int]]] = {}
        for entry in entries:
            by_day.setdefault(entry[2], []).append(entry)
        kept = []
        for day, of_day in by_day.items():
            known = self.earliest([identity for identity, _, _ in of_day], day, 0)
            kept += [entry for entry, held in zip(of_day, known, strict=True) if held is None or entry[1] < held]
        self.apply(kept, last_offset)

    def forget_before(self, day: int) -> None:
        """Drop whole days before `day`: those that the log time of the partition has passed (protocol 21)."""
        for known in [known for known in self._families if known < day]:
            self._families.pop(known).close()
            self._db.drop_column_family(f"{_DAY_PREFIX}{known}")

    def clear(self) -> None:
        """Forget everything, to be rebuilt."""
        self._wipe()
        self._db.put(_TOPIC, self._topic)

    def close(self) -> None:
        for family in self._families.values():
            family.close()
        self._families = {}
        self._db.close()

    def _handle(self, day: int) -> ColumnFamily:
        name = f"{_DAY_PREFIX}{day}"
        if day not in self._families:
            self._families[day] = self._db.create_column_family(name, self._memory.options())
        return self._db.get_column_family_handle(name)

    def _open(self) -> None:
        path = str(self._path)
        names = Rdict.list_cf(path) if (self._path / "CURRENT").exists() else [_DEFAULT_FAMILY]
        families = {name: self._memory.options() for name in names}
        self._db = Rdict(path, self._memory.options(), families, AccessType.read_write())
        self._families = {
            int(name.removeprefix(_DAY_PREFIX)): self._db.get_column_family(name)
            for name in names
            if name.startswith(_DAY_PREFIX)
        }

    def _wipe(self) -> None:
        self.close()
        Rdict.destroy(str(self._path))
        self._open()
