"""Instants as people and programs write them, and as milliseconds of the epoch, which logs and rows hold."""

from datetime import UTC, datetime, timedelta

import msgspec

from domain.errors import Invalid

CODE = "invalid_instant"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def parse_instant(name: str, text: str) -> datetime:
    """An RFC 3339 instant with a zone, in UTC. Raises Invalid `invalid_instant`, which calls it `name`."""
    try:
        at = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        at = None
    if at is None or at.tzinfo is None:
        raise Invalid(CODE, f"{name} is an instant with a zone, like 2026-11-22T10:00:00Z")
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise Invalid(CODE, f"{name} lies beyond the calendar") from None


def instant(milliseconds: int) -> datetime:
    return EPOCH + milliseconds * MILLISECOND


def milliseconds(moment: datetime) -> int:
    """Rounded down."""
    return (moment - EPOCH) // MILLISECOND
