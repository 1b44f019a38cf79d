"""Server-sent events: the frames, and an answer that goes on until the client leaves or the process stops."""

from collections.abc import AsyncIterator, Mapping

import msgspec
from litestar.response import Stream

MEDIA_TYPE = "text/event-stream"
HEARTBEAT_S = 1.0


def frame(event: str, data: object, event_id: str = "") -> bytes:
    """One event; `data` is one line of JSON."""
    head = f"id: {event_id}\nevent: {event}\ndata: " if event_id else f"event: {event}\ndata: "
    return head.encode() + msgspec.json.encode(data) + b"\n\n"


def vector_id(vector: Mapping[int, int]) -> str:
    """The id of what was sent at a vector (partition -> last done offset)."""
    return ".".join(f"{partition}-{offset}" for partition, offset in sorted(vector.items()))


def stream(frames: AsyncIterator[bytes]) -> Stream:
    return Stream(
        frames,
        media_type=MEDIA_TYPE,
        # No proxy may hold events back until it has a buffer full of them.
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )
