"""Reading an ingest body: bounded before, while and after it is decompressed, and counted against all others."""

import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Self

import zstandard

from api.errors import BodyTooLarge, ClientGone, HttpError, RateLimited, UnsupportedMediaType
from domain.errors import Invalid

Format = Literal["json", "ndjson", "cloudevent", "cloudevents"]
Encoding = Literal["identity", "gzip", "zstd"]

_FORMATS: dict[str, Format] = {
    "application/json": "json",
    "application/x-ndjson": "ndjson",
    "application/cloudevents+json": "cloudevent",
    "application/cloudevents-batch+json": "cloudevents",
}
_ENCODINGS: dict[str, Encoding] = {"": "identity", "identity": "identity", "gzip": "gzip", "zstd": "zstd"}
_GZIP = 31  # zlib's window bits for the gzip container
_OUTPUT_BYTES = 256 << 10
_GZIP_INPUT_BYTES = 64 << 10
# Members of a gzip body, frames of a zstd body: each costs time, also an empty one.
_FRAMES_MAX = 100
# A zstd block of 4 bytes may stand for 128 KiB, and the decoder has no bound on what one call returns: so it is fed
# little at a time, which bounds a call's output to 8 MiB.
_ZSTD_INPUT_BYTES = 256
_ZSTD_WINDOW_BYTES = 16 << 20


def body_format(content_type: str | None) -> Format:
    """Raises UnsupportedMediaType for a type that is none of ours, or a charset other than UTF-8."""
    plain = _FORMATS.get(content_type or "")
    if plain is not None:
        return plain
    media_type, _, parameters = (content_type or "").partition(";")
    found = _FORMATS.get(media_type.strip().lower())
    if found is None:
        raise UnsupportedMediaType(f"send one of {', '.join(_FORMATS)}, not {media_type.strip()[:100] or 'nothing'!r}")
    for parameter in parameters.lower().split(";"):
        name, _, value = parameter.strip().partition("=")
        if name == "charset" and value.strip('"') not in {"utf-8", "utf8"}:
            raise UnsupportedMediaType("JSON is UTF-8")
    return found


def body_encoding(content_encoding: str | None) -> Encoding:
    """Raises UnsupportedMediaType."""
    found = _ENCODINGS.get((content_encoding or "").strip().lower())
    if found is None:
        raise UnsupportedMediaType("Content-Encoding is gzip or zstd, or none")
    return found


class Inflight:
    """Bytes of all ingest requests being worked on. Kept below a limit: what does not fit is refused, not queued."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._limit_field = (b"ratelimit-limit", b"%d" % limit_bytes)
        self.used_bytes = 0

    @property
    def remaining_bytes(self) -> int:
        return max(0, self.limit_bytes - self.used_bytes)

    def reserve(self, size: int) -> None:
        """Raises RateLimited when the process works on too much already."""
        if self.used_bytes + size > self.limit_bytes:
            raise RateLimited("too many bytes are being worked on: send again", headers=self.headers())
        self.used_bytes += size

    def release(self, size: int) -> None:
        self.used_bytes -= size

    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Limit": str(self.limit_bytes),
            "RateLimit-Remaining": str(self.remaining_bytes),
            "RateLimit-Reset": "1",
        }

    def fields(self) -> Iterable[tuple[bytes, bytes]]:
        """`headers` as they go out."""
        return (self._limit_field, (b"ratelimit-remaining", b"%d" % self.remaining_bytes), (b"ratelimit-reset", b"1"))


class Reservation:
    """One request's share of `Inflight`. It only grows, and goes back as a whole when the request is answered."""

    def __init__(self, inflight: Inflight) -> None:
        self._inflight = inflight
        self.size = 0

    def cover(self, size: int) -> None:
        """Holds at least `size` bytes from now on. Raises RateLimited."""
        if size > self.size:
            self._inflight.reserve(size - self.size)
            self.size = size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._inflight.release(self.size)


def too_large(body_max_bytes: int) -> HttpError:
    return BodyTooLarge(f"a body is at most {body_max_bytes} bytes long, decoded")


def announced_length(content_length: str | None, body_max_bytes: int) -> int:
    """The length that the client announced, 0 if none. Raises BodyTooLarge, before anything is read."""
    length = int(content_length[:18]) if content_length is not None and content_length.isdecimal() else 0
    if length > body_max_bytes:
        raise too_large(body_max_bytes)
    return length


async def read_body(receive: Any, reservation: Reservation, body_max_bytes: int, ends_at: int = 0) -> bytes:
    """The body as sent. Raises BodyTooLarge, RateLimited, ClientGone.

    `ends_at` is the length of the body where it is known: the message that says that it is over is then not waited for.
    """
    parts: list[bytes] = []
    size = 0
    while (message := await receive())["type"] == "http.request":
        part = message.get("body", b"")
        size += len(part)
        if size > body_max_bytes:
            raise too_large(body_max_bytes)
        reservation.cover(size)
        parts.append(part)
        if size == ends_at > 0 or not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)
    raise ClientGone


def decode_body(body: bytes, encoding: Encoding, reservation: Reservation, body_max_bytes: int) -> bytes:
    """The body decompressed; it never holds more than `body_max_bytes` plus one step of the decoder.

    Raises BodyTooLarge, RateLimited, and Invalid `malformed_encoding` for what is damaged or cut off.
    """
    if encoding == "identity":
        return body
    parts: list[bytes] = []
    size = 0
    try:
        for part in _gunzip(body) if encoding == "gzip" else _unzstd(body):
            size += len(part)
            if size > body_max_bytes:
                raise too_large(body_max_bytes)
            # The compressed body is held meanwhile.
            reservation.cover(len(body) + size)
            parts.append(part)
    except (zlib.error, zstandard.ZstdError) as error:
        raise Invalid("malformed_encoding", f"the body is no sound {encoding}") from error
    return b"".join(parts)


def _gunzip(body: bytes) -> Iterator[bytes]:
    """All members, one after another, as gzip allows."""
    start = 0
    for _ in range(_FRAMES_MAX):
        decoder = zlib.decompressobj(_GZIP)
        while not decoder.eof:
            if start >= len(body):
                raise _cut_off()
            rest = body[start : start + _GZIP_INPUT_BYTES]
            start += len(rest)
            while rest and not decoder.eof:
                yield decoder.decompress(rest, _OUTPUT_BYTES)
                rest = decoder.unconsumed_tail
        start -= len(decoder.unused_data)
        if start >= len(body):
            return
    raise _too_many_frames()


def _unzstd(body: bytes) -> Iterator[bytes]:
    """All frames, one after another."""
    context = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    start = 0
    for _ in range(_FRAMES_MAX):
        decoder = context.decompressobj()
        while not decoder.eof:
            if start >= len(body):
                raise _cut_off()
            rest = body[start : start + _ZSTD_INPUT_BYTES]
            start += len(rest)
            yield decoder.decompress(rest)
        start -= len(decoder.unused_data)
        if start >= len(body):
            return
    raise _too_many_frames()


def _too_many_frames() -> Invalid:
    return Invalid("malformed_encoding", f"a compressed body has at most {_FRAMES_MAX} parts")


def _cut_off() -> Invalid:
    return Invalid("malformed_encoding", "the compressed body is cut off")
