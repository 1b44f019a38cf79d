"""The sieves of one duplicate filter: one a log day, within what the process may keep of them.

A day without one is asked of RocksDB, which is slower and as exact.
"""

import threading
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from stores.rocks.sieve import IDENTITY_BYTES, Places, Sieve


class SieveRoom:
    """Bytes that all sieves of a process may take together; filters of several threads share it."""

    def __init__(self, bytes_max: int) -> None:
        self._left = bytes_max
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        with self._lock:
            fits = size <= self._left
            if fits:
                self._left -= size
            return fits

    def give(self, size: int) -> None:
        with self._lock:
            self._left += size


class _Learning(NamedTuple):
    """A day found on disk: what was read of it, and after which key it goes on."""

    sieve: Sieve
    above: bytes


class Sieves:
    """By log day. Of a day that is being learnt the sieve is filled, and not asked."""

    def __init__(self, room: SieveRoom) -> None:
        self._room = room
        self._whole: dict[int, Sieve] = {}
        self._learning: dict[int, _Learning] = {}

    def found(self, days: Iterable[int]) -> None:
        """Days on disk, of which nothing is known yet; the newest are learnt first."""
        self.clear()
        self._learning = {day: _Learning(Sieve(), b"") for day in sorted(days, reverse=True)}

    def begin(self, day: int) -> None:
        """A day of which there is nothing on disk."""
        self._whole[day] = Sieve()

    def possible(self, day: int, places: Places) -> Sequence[int] | None:
        """Which of the identities may be known in a day; None where it must be asked about all."""
        sieve = self._whole.get(day)
        if sieve is None:
            return None
        found: list[int] = np.flatnonzero(sieve.possible(places)).tolist()
        return found

    def remember(self, day: int, identities: bytes) -> None:
        """Before they are written: a sieve may say too much, and never too little."""
        sieve = self._sieve(day)
        if sieve is None:
            return
        wanted = sieve.growth_bytes(len(identities) // IDENTITY_BYTES)
        while not self._room.take(wanted):
            # The oldest day is asked about least: most copies come soon. That may be this one, which is loaded last.
            oldest = min((*self._whole, *self._learning))
            self.drop(oldest)
            if oldest == day:
                return
        sieve.add(identities)

    def to_learn(self) -> tuple[int, bytes] | None:
        """The day to be read on, and after which key."""
        return next(((day, one.above) for day, one in self._learning.items()), None)

    def learnt(self, day: int, identities: bytes, above: bytes | None) -> None:
        """The next identities of a day on disk; `above` None where they were the last."""
        self.remember(day, identities)
        known = self._learning.pop(day, None)  # given up, where there was no room for it
        if known is None:
            return
        if above is None:
            self._whole[day] = known.sieve
        else:
            self._learning = {day: known._replace(above=above), **self._learning}

    def drop(self, day: int) -> None:
        sieve = self._sieve(day)
        self._whole.pop(day, None)
        self._learning.pop(day, None)
        if sieve is not None:
            self._room.give(sieve.held_bytes)

    def clear(self) -> None:
        for day in [*self._whole, *self._learning]:
            self.drop(day)

    def _sieve(self, day: int) -> Any:
        learning = self._learning.get(day)
        return self._whole.get(day) if learning is None else learning.sieve
