"""What goes wrong, as ClickHouse says it: a numeric code, a text that begins with it, an HTTP status."""

import re

_CODE = re.compile(r"Code: (\d+)\. ")
_TWICE = re.compile(r"^(Code: \d+\. DB::Exception: )\1")

UNEXPECTED_END_OF_FILE = 3
BAD_ARGUMENTS = 36
NOT_IMPLEMENTED = 48
SYNTAX_ERROR = 62
UNKNOWN_COMPRESSION_METHOD = 89
READONLY = 164
TOO_MANY_SIMULTANEOUS_QUERIES = 202
QUERY_IS_TOO_LARGE = 229
CANNOT_DECOMPRESS = 271
INTO_OUTFILE_NOT_ALLOWED = 358
CANNOT_SCHEDULE_TASK = 439
UNKNOWN_EXCEPTION = 1002

_FORBIDDEN = (192, 193, 497, 512, 516)  # users, passwords, roles, ACCESS_DENIED
_BAD_REQUEST = (
    *(6, 25, 26, 27, 38, 41, 72, 376, 427, 441, 675, 676),  # CANNOT_PARSE_*, CANNOT_COMPILE_REGEXP
    *(8, 15, 36, 44, 53, 321),  # columns, BAD_ARGUMENTS, TYPE_MISMATCH, VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
    *(37, 62, 117, 123, 167, 168, 223),  # syntax trees, SYNTAX_ERROR, INCORRECT_DATA
)
_NOT_FOUND = (46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511)  # UNKNOWN_*

# The server's own table (exceptionCodeToHTTPStatus), by number; every other code is 500.
_STATUS: dict[int, int] = {
    194: 401,
    **dict.fromkeys(_FORBIDDEN, 403),
    **dict.fromkeys(_BAD_REQUEST, 400),
    **dict.fromkeys(_NOT_FOUND, 404),
    QUERY_IS_TOO_LARGE: 413,
    NOT_IMPLEMENTED: 501,
    209: 503,  # SOCKET_TIMEOUT
    76: 503,  # CANNOT_OPEN_FILE
    CANNOT_SCHEDULE_TASK: 503,
    381: 411,  # HTTP_LENGTH_REQUIRED
    159: 408,  # TIMEOUT_EXCEEDED
    779: 415,  # UNSUPPORTED_MEDIA_TYPE
}


class EngineError(Exception):
    """A refused or failed statement: `code` is ClickHouse's number, `text` what the server would answer."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    @property
    def status(self) -> int:
        return _STATUS.get(self.code, 500)


def refusal(code: int, name: str, message: str) -> EngineError:
    """A failure that this process decides itself, in the engine's words."""
    return EngineError(code, f"Code: {code}. DB::Exception: {message}. ({name})")


def from_engine(message: str) -> EngineError:
    """The failure inside an exception of chDB; a text without a code is UNKNOWN_EXCEPTION."""
    start = message.find("Code: ")
    found = _CODE.match(message, start) if start >= 0 else None
    if found is None:
        return EngineError(
            UNKNOWN_EXCEPTION, f"Code: {UNKNOWN_EXCEPTION}. DB::Exception: {message}. (UNKNOWN_EXCEPTION)"
        )
    return EngineError(int(found[1]), _TWICE.sub(r"\1", message[start:].strip()))
