"""What a duplicate filter may hold, in memory: nearly every event is new, and this says so without asking RocksDB.

A Bloom filter whose bits for one identity lie in one machine word, so that ten thousand are asked in the time of a few
look-ups on disk. It forgets nothing; of identities that were never added it lets about one in two hundred through.
"""

from typing import Any

import numpy as np

IDENTITY_BYTES = 16

# Of 64 bits a word, five an identity, and four identities a word when a layer is full: 16 bits an identity.
_IDENTITIES_A_WORD = 4
# Small at first: a worker has one for each day of each of its partitions.
_FIRST_WORDS = 1 << 9
_GROWTH = 4
_WORD_BYTES = 8
_SIX_BITS = np.uint64(63)
_ONE = np.uint64(1)
# Identities of one partition are equal modulo the number of partitions, in the last bits of their first half: those stay
# out of it, and the word is chosen by the second half.
_SHIFTS = tuple(np.uint64(shift) for shift in (16, 22, 28, 34, 40))

Places = tuple[Any, Any]


class Sieve:
    """Of identities (uniformly distributed hashes). Grows by layers, each four times as large as the one before."""

    def __init__(self) -> None:
        self._layers: list[Any] = []
        self._room = 0

    @property
    def held_bytes(self) -> int:
        return sum(len(layer) * _WORD_BYTES for layer in self._layers)

    def growth_bytes(self, count: int) -> int:
        """How much more memory it takes once `count` identities are added."""
        room, layers, grown = self._room, len(self._layers), 0
        while room < count:
            size = _layer_words(layers)
            room, layers, grown = room + size * _IDENTITIES_A_WORD, layers + 1, grown + size * _WORD_BYTES
        return grown

    def add(self, identities: bytes) -> None:
        """Any number of identities, one behind the other. Safe to repeat, at the price of room."""
        words, bits = places_of(identities)
        done = 0
        while done < len(words):
            if not self._room:
                size = _layer_words(len(self._layers))
                self._layers.append(np.zeros(size, np.uint64))
                self._room = size * _IDENTITIES_A_WORD
            upto = min(len(words), done + self._room)
            layer = self._layers[-1]
            np.bitwise_or.at(layer, words[done:upto] % len(layer), bits[done:upto])
            self._room -= upto - done
            done = upto

    def possible(self, places: Places) -> Any:
        """For each identity (`places_of`) whether it may have been added, as an array of bool."""
        words, bits = places
        found = np.zeros(len(words), bool)
        for layer in self._layers:
            found |= (layer[words % len(layer)] & bits) == bits
        return found


def _layer_words(number: int) -> int:
    words: int = _FIRST_WORDS * _GROWTH**number
    return words


def places_of(identities: bytes) -> Places:
    """Where to look for identities, one behind the other: worked out once for all sieves."""
    halves = np.frombuffer(identities, ">u8").astype(np.uint64).reshape(-1, 2)
    bits = np.zeros(len(halves), np.uint64)
    for shift in _SHIFTS:
        bits |= _ONE << ((halves[:, 0] >> shift) & _SIX_BITS)
    return (halves[:, 1] >> _ONE).astype(np.int64), bits
