"""Just enough of ClickHouse's grammar to route a statement: where it ends, where its data begins, what it answers.

Positions are byte offsets: text is handled as latin-1, one character a byte, because an INSERT's data is binary.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, NamedTuple

import msgspec

from runtime.local.clickhouse.failures import (
    BAD_ARGUMENTS,
    INTO_OUTFILE_NOT_ALLOWED,
    SYNTAX_ERROR,
    EngineError,
    refusal,
)

Kind = Literal["select", "show", "insert", "session", "other"]

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f\v\x00\xa0]+|--[^\n]*|\#[! ][^\n]*|/\*.*?\*/)
      | (?P<heredoc>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
      | (?P<quoted>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|`(?:[^`\\]|\\.|``)*`)
      | (?P<word>[A-Za-z_0-9\x80-\xff$]+)
      | (?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)
_SELECTS = frozenset({"SELECT", "WITH", "FROM"})
_SHOWS = frozenset({"SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "CHECK"})
_OPEN = "([{"
_CLOSE = ")]}"


class Token(NamedTuple):
    text: str  # a word is upper-cased
    start: int
    end: int
    depth: int
    is_word: bool


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """One statement, cut where something may be put in. Parts are SQL text; `data_at` is an offset in the source."""

    kind: Kind
    head: str  # up to FORMAT (of an insert: up to SETTINGS, FORMAT or VALUES)
    tail: str = ""  # of an insert: its SETTINGS; of a select: what stands after the format's name
    format: str | None = None
    data_at: int = 0

    @property
    def read_only(self) -> bool:
        return self.kind in ("select", "show")


def tokens(text: str) -> Iterator[Token]:
    """The significant tokens of `text`, lazily, with their bracket depth."""
    depth = 0
    for found in _TOKEN.finditer(text):
        kind = found.lastgroup
        if kind == "space":
            continue
        piece = found[0]
        if kind == "sign" and piece in _CLOSE:
            depth -= 1
        yield Token(
            piece.upper() if kind == "word" else piece, found.start(), found.end(), depth, is_word=kind == "word"
        )
        if kind == "sign" and piece in _OPEN:
            depth += 1


def parse(source: bytes) -> Statement:
    """The statement that `source` holds or begins with (an INSERT's data may follow and be cut off anywhere).

    Raises EngineError for what the HTTP interface refuses: several statements, files of the server, emptiness.
    """
    text = source.decode("latin-1")
    stream = tokens(text)
    first = next(stream, None)
    if first is None:
        raise refusal(SYNTAX_ERROR, "SYNTAX_ERROR", "Syntax error: failed at position 1 (end of query): Empty query")
    if first.text == "INSERT":
        insert = _insert(text, stream)
        if insert is not None:
            return insert
        stream = tokens(text)
    return _whole(text, list(stream) if first.text == "INSERT" else [first, *stream])


def _insert(text: str, stream: Iterator[Token]) -> Statement | None:
    """An INSERT whose data follows; None for INSERT ... SELECT."""
    name_seen = False
    settings_at: int | None = None
    for token in stream:
        if token.depth or not token.is_word or not name_seen:
            # The table's name, whatever word it is, ends the search for INTO, TABLE and FUNCTION.
            name_seen = name_seen or token.text not in ("INTO", "TABLE", "FUNCTION")
            continue
        if token.text in ("SELECT", "WITH", "FROM"):
            return None
        if token.text == "SETTINGS":
            settings_at = token.start
        elif token.text in ("VALUES", "FORMAT"):
            cut = token.start if settings_at is None else settings_at
            if token.text == "VALUES":
                name, data_at = "Values", token.end
            else:
                name_token = next(stream, None)
                if name_token is None or not name_token.is_word:
                    raise refusal(SYNTAX_ERROR, "SYNTAX_ERROR", "Syntax error: a format's name is expected")
                name, data_at = text[name_token.start : name_token.end], _after_line(text, name_token.end)
            return Statement(
                kind="insert",
                head=_sql(text[:cut]),
                tail=_sql(text[cut : token.start]),
                format=name,
                data_at=data_at,
            )
    return None


def _after_line(text: str, at: int) -> int:
    """Data begins after the blanks behind the format's name and at most one line end, as in the server."""
    while text[at : at + 1] in (" ", "\t", "\f") and at < len(text):
        at += 1
    if text[at : at + 2] == "\r\n":
        return at + 2
    return at + 1 if text[at : at + 1] == "\n" else at


def _whole(text: str, found: list[Token]) -> Statement:
    end = _end(text, found)
    found = [token for token in found if token.end <= end]
    kind = _kind(found)
    if any(one.text == "INTO" and two.text == "OUTFILE" for one, two in pairwise(found)):
        raise refusal(INTO_OUTFILE_NOT_ALLOWED, "INTO_OUTFILE_NOT_ALLOWED", "INTO OUTFILE is not allowed")
    if any(one.text == "FROM" and two.text == "INFILE" for one, two in pairwise(found)):
        raise refusal(BAD_ARGUMENTS, "BAD_ARGUMENTS", "FROM INFILE is not allowed in the HTTP interface")
    for at in range(len(found) - 2, 0, -1):
        token, name = found[at], found[at + 1]
        if token.text != "FORMAT" or token.depth or not name.is_word:
            continue
        if at + 2 == len(found) or found[at + 2].text == "SETTINGS":
            return Statement(
                kind=kind,
                head=_sql(text[: token.start]),
                format=text[name.start : name.end],
                tail=_sql(text[name.end : end]),
            )
        break
    return Statement(kind=kind, head=_sql(text[:end]))


def _end(text: str, found: list[Token]) -> int:
    """Where the statement ends: its last token but closing semicolons; anything behind one is a second statement."""
    semicolon: int | None = None
    for token in found:
        if token.text == ";":
            semicolon = token.start if semicolon is None else semicolon
        elif semicolon is not None:
            raise _several(semicolon)
    if semicolon is not None:
        return semicolon
    return found[-1].end if found else len(text)


def _several(at: int) -> EngineError:
    return refusal(
        SYNTAX_ERROR,
        "SYNTAX_ERROR",
        f"Syntax error (Multi-statements are not allowed): failed at position {at + 1} (end of query)",
    )


def _kind(found: list[Token]) -> Kind:
    first = next((token.text for token in found if token.text != "("), "")
    if first == "WITH":
        # WITH may also stand before INSERT ... SELECT.
        return "other" if any(token.text == "INSERT" and not token.depth for token in found) else "select"
    if first in _SELECTS:
        return "select"
    if first in _SHOWS:
        return "show"
    if first in ("SET", "USE") or (
        first == "CREATE" and any(token.text in ("TEMPORARY", "TEMP") for token in found[1:4])
    ):
        return "session"
    return "other"


def _sql(text: str) -> str:
    try:
        return text.encode("latin-1").decode().strip()
    except UnicodeDecodeError as error:
        raise refusal(SYNTAX_ERROR, "SYNTAX_ERROR", f"Syntax error: a statement must be UTF-8: {error}") from error
