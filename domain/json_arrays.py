"""Splitting a JSON array into its elements as they were sent, so that one bad element spoils no other."""

import re

import msgspec
from msgspec import Raw

from domain.errors import Invalid

_ARRAY = re.compile(rb"[ \t\r\n]*\[")
# Strings are skipped whole, so that brackets and commas inside them count for nothing.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]', re.DOTALL)
_raw_list_decoder = msgspec.json.Decoder(list[Raw])
_raw_decoder = msgspec.json.Decoder(Raw)


def split_array(body: bytes) -> list[Raw]:
    """The elements of a JSON array, or the one value that is no array. Raises Invalid `malformed_json`."""
    is_array = _ARRAY.match(body) is not None
    try:
        return _raw_list_decoder.decode(body) if is_array else [_raw_decoder.decode(body)]
    except RecursionError:
        # Nested deeper than the decoder goes: cut by hand, and let the verdict on each element say what is wrong.
        return _cut(body) if is_array else [Raw(body)]
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _malformed() from None


def _malformed() -> Invalid:
    return Invalid("malformed_json", "the body is not JSON")


def _cut(body: bytes) -> list[Raw]:
    elements: list[Raw] = []
    depth, start, end = 0, 0, -1
    for token in _TOKEN.finditer(body):
        mark = token.group()
        if mark in {b"[", b"{"}:
            depth += 1
            if depth == 1:
                start = token.end()
        elif mark in {b"]", b"}"}:
            depth -= 1
            if depth == 0:
                elements.append(Raw(body[start : token.start()].strip()))
                end = token.end()
                break
        elif mark == b"," and depth == 1:
            elements.append(Raw(body[start : token.start()].strip()))
            start = token.end()
    if end < 0 or body[end:].strip():
        raise _malformed()
    return elements
