"""The duplicate filter of one partition: identity -> position of its first copy, by day of log time.

One RocksDB a partition, one column family a day, so that the entries of a block and the position it brings the filter
to are one atomic write even across midnight, and a day past the window is dropped whole. Losing it loses nothing: it is
rebuilt from `events` (protocol 11), and says itself which offsets it does not have yet (`gaps`).
"""

import contextlib
import gc
import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from struct import Struct as Packing
from struct import iter_unpack
from typing import Any

import numpy as np
from rocksdict import AccessType, ColumnFamily, Rdict, WriteBatch

from domain.errors import Unavailable
from domain.offset_ranges import OffsetRange, common, merged, without
from stores.rocks.errors import SERVICE, FilterDamaged, translated
from stores.rocks.memory import FilterMemory
from stores.rocks.sieve import IDENTITY_BYTES, places_of
from stores.rocks.sieves import Sieves

ROW = "16s12s"
"""A row of `load`: identity and packed position."""

Entry = tuple[bytes, bytes, int]
"""Of `apply`: identity, packed position, log day."""

_FORMAT = b"2"
_FORMAT_KEY = b"format"
_DEFAULT_FAMILY = "default"
_DAY_PREFIX = "day-"
_APPLIED = b"applied"
_GAPS = b"gaps"
_TOPIC = b"topic"
_OFFSET_BYTES = 8
_ROW_BYTES = 28
_NEXT = b"\0"
_GAP = Packing(">QQ")


class DuplicateFilter:
    """What one partition remembers. Not safe for concurrent use: its partition has one owner.

    It holds the first copies of all offsets up to `applied` that are not in `gaps`. Positions are packed
    (`domain.blocks.pack_position`): bytes that compare as the positions do. Every write is idempotent by identity: of
    two positions of one day the smaller stays (protocol 13).

    A full disk raises Unavailable("disk"): the same call later opens the database anew, since RocksDB writes no more
    after such an error. Files that do not hold what was written raise FilterDamaged: they are removed, this object
    answers nothing any more, and the next one is empty. `discarded` says why what was found at opening was thrown away.
    """

    def __init__(self, path: Path, memory: FilterMemory, topic_id: str) -> None:
        self._memory = memory
        self._path = path
        self._topic = topic_id.encode()
        self._families: dict[int, Rdict] = {}
        self._inherited: set[int] = set()
        self._sieves = Sieves(memory.sieve_room)
        self._db: Any = None
        self._gone = self._failed = False
        self._applied = -1
        self._gaps: list[OffsetRange] = []
        self.discarded: str | None = None
        try:
            self._open()
        except FilterDamaged as damaged:
            self.discarded = str(damaged)
            self._start_anew()

    @property
    def applied(self) -> int:
        """The last offset that the filter has been brought to; -1 where there is none."""
        return self._applied

    @property
    def gaps(self) -> list[OffsetRange]:
        """Offsets up to `applied` whose first copies are not in the filter yet: they must be asked for elsewhere."""
        return list(self._gaps)

    @property
    def days(self) -> list[int]:
        return sorted(self._families)

    def earliest(self, identities: Sequence[bytes], day: int, window_days: int) -> list[bytes | None]:
        """For each identity the smallest position known in the log days `[day - window_days, day]`, or None."""
        found: list[bytes | None] = [None] * len(identities)
        if not identities:
            return found
        everywhere = places_of(b"".join(identities))
        with self._reading():
            for known in sorted(self._families):
                if not day - window_days <= known <= day:
                    continue
                # Of some that are new a sieve does not know that they are: RocksDB says so.
                places = self._sieves.possible(known, everywhere)
                if places is None:
                    places = range(len(identities))
                if not places:
                    continue
                wanted: list[Any] = [identities[place] for place in places]
                hits: Sequence[bytes | None] = self._families[known].get(wanted) or ()
                # Days ascend and positions with them, but clocks of brokers may step back: keep the least.
                for place, hit in zip(places, hits, strict=False):
                    if hit is not None:
                        held = found[place]
                        if held is None or hit < held:
                            found[place] = hit
        return found

    def learn(self, identities_max: int) -> None:
        """Read on in the days found on disk at opening, until they are known in memory too: a piece a call."""
        left = identities_max
        with self._reading():
            while left > 0 and (next_one := self._sieves.to_learn()) is not None:
                day, above = next_one
                family: Any = self._families[day]
                keys = list(islice(family.keys(from_key=above), left))
                self._sieves.learnt(day, b"".join(keys), None if len(keys) < left else keys[-1] + _NEXT)
                left -= max(len(keys), 1)

    def apply(self, entries: Sequence[Entry], last_offset: int) -> None:
        """Enter a block's first copies (identity, position, log day) and move `applied` on: one atomic write.

        Safe to repeat: the same block writes the same entries. `applied` never goes back.
        """
        applied = max(last_offset, self._applied)
        with self._writing() as batch:
            for day, group in _by_day(entries):
                identities, positions, _ = zip(*group, strict=True)
                handle, put = self._handle(day), batch.put
                joined = b"".join(identities)
                self._sieves.remember(day, joined)
                # In the order of their keys RocksDB takes half the time: neighbours share their way through its list.
                for place in np.argsort(np.frombuffer(joined, ">u8")[::2].astype(np.uint64)).tolist():
                    put(identities[place], positions[place], handle)
            batch.put(_APPLIED, _packed_offset(applied))
        self._applied = applied

    def begin(self, last_offset: int, stored: Sequence[OffsetRange]) -> list[OffsetRange]:
        """At a take-over: the filter is to stand for everything up to `last_offset`; the gaps that it then has.

        `stored` are the ranges that hold what is needed of the offsets the filter lacks: what lies outside of them is no
        gap. Safe to repeat; an older `last_offset` takes nothing back.
        """
        missing = merged([*self._gaps, (self._applied + 1, last_offset)])
        gaps = common(missing, merged(stored))
        applied = max(last_offset, self._applied)
        with self._writing() as batch:
            batch.put(_APPLIED, _packed_offset(applied))
            batch.put(_GAPS, _packed_gaps(gaps))
        self._applied, self._gaps = applied, gaps
        # What these days hold may be from an earlier tenure; days that come new are filled by us alone.
        self._inherited = set(self._families)
        return list(gaps)

    def load(self, day: int, rows: bytes) -> None:
        """Enter rows (ROW) of one log day that were read back from the store; a smaller position known already stays.

        One write; rows sorted by identity are three times as fast. Safe to repeat.
        """
        with self._writing() as batch:
            handle, put = self._handle(day), batch.put
            self._sieves.remember(
                day, np.frombuffer(rows, np.uint8).reshape(-1, _ROW_BYTES)[:, :IDENTITY_BYTES].tobytes()
            )
            if day in self._inherited:
                identities = [identity for identity, _ in iter_unpack(ROW, rows)]
                known = self._families[day].get(identities) or ()
                for (identity, position), held in zip(iter_unpack(ROW, rows), known, strict=True):
                    if held is None or position < held:  # protocol 13
                        put(identity, position, handle)
            else:
                for identity, position in iter_unpack(ROW, rows):
                    put(identity, position, handle)

    def loaded(self, first_offset: int, last_offset: int) -> None:
        """Everything between the two offsets is in the filter: what `load` wrote before is on disk before this is."""
        gaps = without(self._gaps, first_offset, last_offset)
        with self._writing() as batch:
            batch.put(_GAPS, _packed_gaps(gaps))
        self._gaps = gaps

    def forget_before(self, day: int) -> None:
        """Drop whole days before `day`: those that the log time of the partition has passed (protocol 21)."""
        for known in [known for known in self._families if known < day]:
            with self._reading():
                self._sieves.drop(known)
                self._families.pop(known).close()
                self._db.drop_column_family(f"{_DAY_PREFIX}{known}")

    def clear(self) -> None:
        """Forget everything, to be rebuilt."""
        self._start_anew()

    def close(self) -> None:
        """Also after an error: what was not written is read again from the store."""
        opened = [*([] if self._db is None else [self._db]), *self._families.values()]
        self._db, self._families = None, {}
        self._sieves.clear()
        while opened:
            # After a failed write it says so again. The directory is free once nothing refers to the database any more.
            with contextlib.suppress(Unavailable, FilterDamaged), translated():
                opened.pop().close()
        if self._failed:
            gc.collect()

    def _handle(self, day: int) -> ColumnFamily:
        name = f"{_DAY_PREFIX}{day}"
        if day not in self._families:
            self._families[day] = self._db.create_column_family(name, self._memory.options())
            self._sieves.begin(day)
        handle: ColumnFamily = self._db.get_column_family_handle(name)
        return handle

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        self._require()
        try:
            with translated():
                yield
        except FilterDamaged:
            self._remove()
            raise

    @contextlib.contextmanager
    def _writing(self) -> Iterator[WriteBatch]:
        """A batch that is written at the end: all of it or nothing."""
        self._require()
        try:
            with translated():
                batch = WriteBatch(raw_mode=True)
                yield batch
                self._db.write(batch)
        except Unavailable:
            self._failed = True
            raise
        except FilterDamaged:
            self._remove()
            raise

    def _require(self) -> None:
        """Open anew after a failed write: RocksDB takes no other in the same life."""
        if self._gone:
            raise FilterDamaged("the duplicate filter was found damaged and is to be rebuilt")
        if not self._failed:
            if self._db is None:
                raise Unavailable(SERVICE, "the duplicate filter is closed")
            return
        before = (self._applied, self._gaps)
        self.close()
        try:
            self._open()
        except FilterDamaged:
            self._remove()
            raise
        if (self._applied, self._gaps) != before:
            self._remove()
            raise FilterDamaged(f"the duplicate filter lost what it had written: {before[0]} became {self._applied}")

    def _open(self) -> None:
        with translated():
            self._path.mkdir(parents=True, exist_ok=True)
            path = str(self._path)
            names = Rdict.list_cf(path) if (self._path / "CURRENT").exists() else [_DEFAULT_FAMILY]
            families = {name: self._memory.options() for name in names}
            self._db = Rdict(path, self._memory.options(), families, AccessType.read_write())
            self._families = {
                int(name.removeprefix(_DAY_PREFIX)): self._db.get_column_family(name)
                for name in names
                if name.startswith(_DAY_PREFIX)
            }
            self._failed = False
            self._inherited = set(self._families)
            self._sieves.found(self._families)
            found = {key: self._db.get(key) for key in (_FORMAT_KEY, _TOPIC, _APPLIED, _GAPS)}
        if found[_TOPIC] is None and found[_APPLIED] is None and not self._families:
            self._describe()
        elif found[_FORMAT_KEY] != _FORMAT:
            raise FilterDamaged(f"format {found[_FORMAT_KEY]!r} where this release writes {_FORMAT!r}")
        elif found[_TOPIC] != self._topic:
            # protocol 5: a re-created topic reuses offsets; positions of its predecessor would take copies for firsts.
            raise FilterDamaged("it belongs to another topic")
        else:
            stored = found[_APPLIED]
            self._applied = -1 if stored is None else int.from_bytes(stored, "big", signed=True)
            self._gaps = [(first, last) for first, last in _GAP.iter_unpack(found[_GAPS] or b"")]

    def _describe(self) -> None:
        self._applied, self._gaps = -1, []
        try:
            with translated():
                batch = WriteBatch(raw_mode=True)
                batch.put(_FORMAT_KEY, _FORMAT)
                batch.put(_TOPIC, self._topic)
                self._db.write(batch)
        except Unavailable:
            self._failed = True
            self.close()
            raise

    def _start_anew(self) -> None:
        self._remove()
        self._gone = False
        self._open()

    def _remove(self) -> None:
        """Files and all: whatever is wrong with them is gone."""
        self._gone = self._failed = True
        self.close()
        try:
            if self._path.is_dir() and not self._path.is_symlink():
                shutil.rmtree(self._path)
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(SERVICE, f"{self._path} cannot be removed: {error}") from error


def _by_day(entries: Sequence[Entry]) -> list[tuple[int, Sequence[Entry]]]:
    """Nearly every block is of one day, and then nothing is moved."""
    days = set(map(itemgetter(2), entries))
    if len(days) <= 1:
        return [(day, entries) for day in days]
    return [(day, [entry for entry in entries if entry[2] == day]) for day in sorted(days)]


def _packed_offset(offset: int) -> bytes:
    return offset.to_bytes(_OFFSET_BYTES, "big", signed=True)


def _packed_gaps(gaps: Sequence[OffsetRange]) -> bytes:
    return b"".join(_GAP.pack(first, last) for first, last in gaps)
