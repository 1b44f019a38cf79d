"""The one piece of ClickHouse's Native format that the engine leaves out: the header of an empty result."""

from collections.abc import Mapping

import msgspec

from runtime.local.clickhouse.engine import Connection
from runtime.local.clickhouse.failures import EngineError
from runtime.local.clickhouse.statement import Statement


class _Column(msgspec.Struct, frozen=True):
    name: str
    type: str


class _Meta(msgspec.Struct, frozen=True):
    meta: list[_Column]


def header_block(connection: Connection, statement: Statement, parameters: Mapping[str, str]) -> bytes:
    """A block of no rows with the columns of `statement`, which a server sends first and chDB does not."""
    try:
        described = connection.query(f"DESCRIBE ({statement.head})", "JSONCompactEachRow", parameters).bytes()
        columns = [_Column(*row[:2]) for row in map(msgspec.json.decode, bytes(described or b"").splitlines())]
    except EngineError:
        # SHOW and the like cannot be described; they are cheap to ask again in a format that names its columns.
        again = connection.query(f"{statement.head}\nFORMAT JSONCompact {statement.tail}", "JSONCompact", parameters)
        columns = msgspec.json.decode(bytes(again.bytes()), type=_Meta).meta
    parts = [_varint(len(columns)), _varint(0)]
    for column in columns:
        parts += [_text(column.name), _text(column.type)]
    return b"".join(parts)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _varint(len(encoded)) + encoded
