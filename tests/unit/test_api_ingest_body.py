"""Bodies are bounded: announced, read and decompressed."""

import gzip
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import zstandard

from api.errors import BodyTooLarge, ClientGone, RateLimited, UnsupportedMediaType
from api.ingest_body import (
    Encoding,
    Inflight,
    Reservation,
    _gunzip,
    _unzstd,
    announced_length,
    body_encoding,
    body_format,
    decode_body,
    read_body,
)
from domain.errors import Invalid

LIMIT = 16 << 20


@pytest.fixture
def reservation() -> Iterator[Reservation]:
    with Reservation(Inflight(128 << 20)) as held:
        yield held


def receiving(*messages: dict[str, Any]) -> Any:
    rest = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(rest)

    return receive


@pytest.mark.parametrize(
    ("sent", "form"),
    [
        ("application/json", "json"),
        ("Application/JSON; charset=UTF-8", "json"),
        ("application/x-ndjson", "ndjson"),
        ("application/cloudevents+json", "cloudevent"),
        ("application/cloudevents-batch+json; charset=utf-8", "cloudevents"),
    ],
)
def test_media_types_are_known(sent: str, form: str) -> None:
    assert body_format(sent) == form


@pytest.mark.parametrize("sent", [None, "", "text/json", "application/json; charset=latin-1", "application/xml"])
def test_other_media_types_are_refused(sent: str | None) -> None:
    with pytest.raises(UnsupportedMediaType):
        body_format(sent)


def test_other_encodings_are_refused() -> None:
    assert body_encoding(None) == body_encoding("Identity") == "identity"
    assert body_encoding(" GZIP ") == "gzip"
    for sent in ("br", "deflate", "gzip, gzip"):
        with pytest.raises(UnsupportedMediaType):
            body_encoding(sent)


def test_a_length_announced_beyond_the_limit_is_refused_before_anything_is_read() -> None:
    assert announced_length(None, LIMIT) == 0
    assert announced_length("nonsense", LIMIT) == 0
    assert announced_length(str(LIMIT), LIMIT) == LIMIT
    for sent in (str(LIMIT + 1), "9" * 5000):
        with pytest.raises(BodyTooLarge):
            announced_length(sent, LIMIT)


async def test_a_body_without_length_is_refused_once_it_exceeds_the_limit(reservation: Reservation) -> None:
    part = {"type": "http.request", "body": bytes(6), "more_body": True}
    assert await read_body(receiving(part, {**part, "more_body": False}), reservation, 12) == bytes(12)
    with pytest.raises(BodyTooLarge):
        await read_body(receiving(part, part, part), reservation, 12)


async def test_a_client_that_goes_away_gets_no_answer(reservation: Reservation) -> None:
    part = {"type": "http.request", "body": b"x", "more_body": True}
    with pytest.raises(ClientGone):
        await read_body(receiving(part, {"type": "http.disconnect"}), reservation, LIMIT)


def test_a_bomb_is_refused_and_no_step_of_it_is_large(reservation: Reservation) -> None:
    zeros = bytes(64 << 20)
    bombs: list[tuple[Encoding, bytes]] = [("gzip", gzip.compress(zeros, 9)), ("zstd", zstandard.compress(zeros))]
    for encoding, bomb in bombs:
        with pytest.raises(BodyTooLarge):
            decode_body(bomb, encoding, reservation, LIMIT)
        steps = _gunzip(bomb) if encoding == "gzip" else _unzstd(bomb)
        assert max(len(step) for step in steps) <= 8 << 20


def test_parts_one_after_another_are_one_body(reservation: Reservation) -> None:
    body = b"0123456789" * 20_000
    assert decode_body(gzip.compress(body) + gzip.compress(b"end"), "gzip", reservation, LIMIT) == body + b"end"
    frames = zstandard.compress(body) + zstandard.compress(b"end")
    assert decode_body(frames, "zstd", reservation, LIMIT) == body + b"end"


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_body_cut_off_or_followed_by_junk_is_refused(encoding: Encoding, reservation: Reservation) -> None:
    pack = gzip.compress if encoding == "gzip" else zstandard.compress
    whole = pack(b"line 1\nline 2\n" * 1000)
    for damaged in (b"", whole[:-1], whole[: len(whole) // 2], whole + b"junk", zlib.compress(b"x")):
        with pytest.raises(Invalid) as refused:
            decode_body(damaged, encoding, reservation, LIMIT)
        assert refused.value.code == "malformed_encoding"


def test_very_many_empty_parts_are_refused(reservation: Reservation) -> None:
    for encoding, part in (("gzip", gzip.compress(b"")), ("zstd", zstandard.compress(b""))):
        with pytest.raises(Invalid):
            decode_body(part * 1000, encoding, reservation, LIMIT)  # type: ignore[arg-type]


def test_bytes_in_flight_are_bounded_and_given_back() -> None:
    inflight = Inflight(100)
    with Reservation(inflight) as first:
        first.cover(60)
        first.cover(10)
        assert inflight.used_bytes == 60
        with Reservation(inflight) as second, pytest.raises(RateLimited) as refused:
            second.cover(41)
        assert refused.value.headers["Retry-After"] == "1"
        assert refused.value.headers["RateLimit-Remaining"] == "40"
    assert inflight.used_bytes == 0
