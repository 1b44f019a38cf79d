"""Bytes that may be large: in memory while they are few, in a file of the spool directory beyond that."""

import itertools
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

import lz4.frame
import zstandard

from runtime.local.clickhouse.failures import (
    CANNOT_DECOMPRESS,
    QUERY_IS_TOO_LARGE,
    UNKNOWN_COMPRESSION_METHOD,
    EngineError,
    refusal,
)

IN_MEMORY_BYTES = 256 * 1024
CHUNK_BYTES = 1024 * 1024


class Spool:
    """The directory of the files; what an earlier process left there is removed when it is opened."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for left in directory.iterdir():
            left.unlink()
        self._directory = directory
        self._names = itertools.count()

    def path(self) -> Path:
        """A name that no other part of this process got."""
        return self._directory / f"{next(self._names)}.data"


class Bytes:
    """A growing sequence of bytes, at most `limit` of them: EngineError (413) beyond. `close` removes its file."""

    def __init__(self, spool: Spool, limit: int) -> None:
        self._spool = spool
        self._limit = limit
        self._parts: list[bytes] = []
        self._file: IO[bytes] | None = None
        self._path: Path | None = None
        self.size = 0

    def write(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self._limit:
            raise too_large(self._limit)
        if self._file is None and self.size > IN_MEMORY_BYTES:
            self._to_file()
        if self._file is None:
            self._parts.append(data)
        else:
            self._file.write(data)

    def _to_file(self) -> IO[bytes]:
        self._path = self._spool.path()
        self._file = self._path.open("wb", buffering=0)
        for part in self._parts:
            self._file.write(part)
        self._parts.clear()
        return self._file

    def as_file(self) -> Path:
        """The path of a file that holds all of it."""
        if self._file is None:
            self._to_file()
        assert self._path is not None  # noqa: S101 - a file has a path
        return self._path

    def settled(self) -> "bytes | Bytes":
        """Itself, or its content (and itself closed) when that is little: for bytes that others wrote to its file."""
        if self._path is not None and self._path.stat().st_size > IN_MEMORY_BYTES:
            return self
        content = b"".join(self.chunks())
        self.close()
        return content

    def small(self) -> bytes | None:
        """All of it, when it is in memory."""
        if self._file is not None:
            return None
        if len(self._parts) > 1:
            self._parts = [b"".join(self._parts)]
        return self._parts[0] if self._parts else b""

    def chunks(self) -> Iterator[bytes]:
        small = self.small()
        if small is not None:
            if small:
                yield small
            return
        with self.as_file().open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def close(self) -> None:
        self._parts.clear()
        if self._file is not None and self._path is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)
            self._file = None


def too_large(limit: int) -> EngineError:
    return refusal(QUERY_IS_TOO_LARGE, "QUERY_IS_TOO_LARGE", f"The request is larger than {limit} bytes")


class _Frame(Protocol):
    """One compressed frame (gzip member, lz4 or zstd frame): bytes in, bytes out, and what follows its end."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def _frame(encoding: str) -> _Frame:
    match encoding:
        case "lz4":
            frame: _Frame = lz4.frame.LZ4FrameDecompressor()
        case "zstd":
            frame = zstandard.ZstdDecompressor().decompressobj()
        case "gzip" | "x-gzip":
            frame = zlib.decompressobj(wbits=31)
        case "deflate":
            frame = zlib.decompressobj()
        case _:
            raise refusal(
                UNKNOWN_COMPRESSION_METHOD,
                "UNKNOWN_COMPRESSION_METHOD",
                f"Unknown HTTP content encoding {encoding!r}: lz4, zstd, gzip and deflate are known",
            )
    return frame


def decompressed(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """The content of one or several frames. An end in the middle of a frame is an error, never a short content."""
    if encoding in ("", "identity"):
        yield from chunks
        return
    frame = _frame(encoding)
    open_frame = False
    try:
        for chunk in chunks:
            rest = chunk
            while rest:
                open_frame = True
                # Small pieces bound what a highly compressed one can expand to before the caller counts it.
                piece, rest = rest[: 64 * 1024], rest[64 * 1024 :]
                yield frame.decompress(piece)
                if frame.eof:
                    rest = (frame.unused_data or b"") + rest
                    frame, open_frame = _frame(encoding), False
    except (RuntimeError, zstandard.ZstdError, zlib.error) as error:
        raise _undecodable(str(error)) from None
    if open_frame:
        raise _undecodable("the compressed body ends in the middle of a frame")


def _undecodable(reason: str) -> EngineError:
    return refusal(CANNOT_DECOMPRESS, "CANNOT_DECOMPRESS", f"Cannot decompress the request's body: {reason}")
