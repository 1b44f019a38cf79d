"""`POST /v1/events`: path and wiring of the bare ASGI handler."""

from typing import Any

from api.deps import ApiDeps
from api.errors import translate
from api.plain_asgi import send_bytes
from domain.errors import Unavailable

EVENTS_PATH = "/v1/events"


class IngestHandler:
    def __init__(self, deps: ApiDeps) -> None:
        self._deps = deps

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        answer = translate(Unavailable("ingest", "not built"), self._deps.ids)
        await send_bytes(send, answer.problem.status, answer.body)
