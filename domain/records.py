"""What a record of `usage.raw` says before it is opened: position, log time, and the headers of a trusted producer."""

from collections.abc import Iterable

import msgspec

from schemas.topics import (
    FORMAT,
    HEADER_ENVIRONMENT,
    HEADER_FORMAT,
    HEADER_RECEIVED_AT_MS,
    HEADER_TENANT,
    HEADER_VERSION,
)

MAX_RECORD_BYTES = 1 << 20
MS_PER_HOUR = 3_600_000
MS_PER_DAY = 86_400_000

_NUMBER_DIGITS = 18
# What a receipt can be: beyond it the header is taken for garbage. Stores and calendars end not much later.
_RECEIPT_MAX_MS = 7_258_118_400_000  # the year 2200


class LogRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One record. Without `tenant` and `environment` headers it is `foreign`: its events name both themselves.

    `received_at_ms` is the API's receipt time, of a foreign record the log-append time (protocol 7); `version` the
    catalog version at which the API accepted it (0: none), which the worker's catalog must have reached. A record whose
    header names a format that is not ours is not `readable`, whatever is in it.
    """

    offset: int
    logged_at_ms: int
    received_at_ms: int
    tenant: str
    environment: str
    version: int
    value: bytes
    readable: bool = True

    @property
    def foreign(self) -> bool:
        return not self.tenant


def read_record(offset: int, logged_at_ms: int, value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> LogRecord:
    """The record as the worker judges it; no header makes it fail: what is unusable counts as missing."""
    given = dict(headers)
    tenant, environment = _text(given.get(HEADER_TENANT)), _text(given.get(HEADER_ENVIRONMENT))
    trusted = bool(tenant and environment)
    received_at_ms = _number(given.get(HEADER_RECEIVED_AT_MS), logged_at_ms) if trusted else logged_at_ms
    return LogRecord(
        offset=offset,
        logged_at_ms=logged_at_ms,
        received_at_ms=received_at_ms if received_at_ms < _RECEIPT_MAX_MS else logged_at_ms,
        tenant=tenant if trusted else "",
        environment=environment if trusted else "",
        version=_number(given.get(HEADER_VERSION), 0) if trusted else 0,
        value=b"" if value is None else value,
        readable=given.get(HEADER_FORMAT, FORMAT) == FORMAT,
    )


def headers_of(record: LogRecord, tenant: str, environment: str) -> list[tuple[str, bytes]]:
    """The headers with which a part of `record` goes on to another partition: the same receipt, the same verdict."""
    return [
        (HEADER_TENANT, tenant.encode()),
        (HEADER_ENVIRONMENT, environment.encode()),
        (HEADER_RECEIVED_AT_MS, b"%d" % record.received_at_ms),
        (HEADER_VERSION, b"%d" % record.version),
        (HEADER_FORMAT, FORMAT),
    ]


def _text(raw: bytes | None) -> str:
    try:
        return raw.decode() if raw else ""
    except UnicodeDecodeError:
        return ""


def _number(raw: bytes | None, default: int) -> int:
    if raw is None or not raw.isdigit() or len(raw) > _NUMBER_DIGITS:
        return default
    return int(raw)
