"""States of customers in little memory: all of them are kept, few are asked about at a time.

Decoded a state of ten features takes 26 KB, as JSON 5 KB, and packed here some 150 bytes: records of `entitlements.state`
have nearly everything in common but identifiers and numbers, so the first ones serve as the dictionary of the others.
"""

from collections.abc import Sequence
from hashlib import blake2b
from struct import Struct as Packing

import msgspec
import zstandard

# What the dictionary is made of: enough for a few states, and cheap to keep.
_SAMPLE_BYTES = 64 << 10
_LEVEL = 3
_PLAIN, _BY_DICTIONARY = b"\0", b"\1"
# A `PackedHead`.
_HEAD = Packing(">QQI8s")
_BODY = _HEAD.size + 1


class Names(msgspec.Struct, frozen=True, gc=False):
    """Of a contract what finds it."""

    tenant: str
    environment: str
    customer_id: str
    references: list[str]


class StateHead(msgspec.Struct, frozen=True, gc=False):
    """Of an `EntitlementsState` what deciding about a record takes."""

    version: tuple[int, int]
    contract: Names


class PackedHead(msgspec.Struct, frozen=True, gc=False):
    """What can be asked of a packed state without unpacking it. `names` is their `names_hash`."""

    version: tuple[int, int]
    partition: int
    names: bytes


class StatePacker:
    """Packs and unpacks the values of records. One for all states of a process."""

    def __init__(self) -> None:
        self._sample = bytearray()
        self._pack, self._unpack = zstandard.ZstdCompressor(level=_LEVEL), zstandard.ZstdDecompressor()
        self._dictionary_pack: zstandard.ZstdCompressor | None = None
        self._dictionary_unpack: zstandard.ZstdDecompressor | None = None

    def pack(self, head: PackedHead, value: bytes) -> bytes:
        return b"".join((_HEAD.pack(*head.version, head.partition, head.names), *self._compressed(value)))

    def head(self, packed: bytes) -> PackedHead:
        tenure, batch, partition, names = _HEAD.unpack_from(packed)
        return PackedHead((tenure, batch), partition, names)

    def value(self, packed: bytes) -> bytes:
        """The record's value as it was packed."""
        body = memoryview(packed)[_BODY:]
        if packed[_HEAD.size : _BODY] == _PLAIN or self._dictionary_unpack is None:
            return self._unpack.decompress(body)
        return self._dictionary_unpack.decompress(body)

    def _compressed(self, value: bytes) -> tuple[bytes, bytes]:
        if self._dictionary_pack is not None:
            return _BY_DICTIONARY, self._dictionary_pack.compress(value)
        self._sample += value
        if len(self._sample) >= _SAMPLE_BYTES:
            self._learn()
        return _PLAIN, self._pack.compress(value)

    def _learn(self) -> None:
        shared = zstandard.ZstdCompressionDict(
            bytes(self._sample[:_SAMPLE_BYTES]), dict_type=zstandard.DICT_TYPE_RAWCONTENT
        )
        shared.precompute_compress(level=_LEVEL)
        self._sample.clear()
        self._dictionary_pack = zstandard.ZstdCompressor(dict_data=shared)
        self._dictionary_unpack = zstandard.ZstdDecompressor(dict_data=shared)


def names_hash(references: Sequence[str]) -> bytes:
    """Whether two states have the same names, in the same order, without keeping them."""
    return blake2b("\0".join(references).encode(), digest_size=8).digest()
