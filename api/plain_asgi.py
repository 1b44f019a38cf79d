"""The few lines of ASGI that the bare handlers need."""

from collections.abc import Iterable, Mapping
from typing import Any

from litestar.types import Send

JSON = "application/json"


def header(scope: Any, name: bytes) -> str | None:
    """The value of the first header `name` (lower case), or None."""
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return None


async def send_bytes(
    send: Send, status: int, body: bytes, *, media_type: str | None = JSON, headers: Mapping[str, str] | None = None
) -> None:
    """A whole answer at once."""
    fields = [(b"content-length", b"%d" % len(body))]
    if media_type is not None and body:
        fields.append((b"content-type", media_type.encode()))
    fields += [(key.lower().encode(), value.encode()) for key, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body, "more_body": False})


_JSON_FIELD = (b"content-type", JSON.encode())


async def send_fields(send: Send, status: int, body: bytes, fields: Iterable[tuple[bytes, bytes]]) -> None:
    """A whole answer in JSON at once, with `fields` as they are: names in lower case."""
    head = [(b"content-length", b"%d" % len(body)), _JSON_FIELD, *fields]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body, "more_body": False})
