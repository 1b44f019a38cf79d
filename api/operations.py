"""Is the process alive, can it serve, what does it count; and the dashboard's files. No key is needed here."""

import mimetypes
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
from litestar import Controller, Response, asgi, get
from litestar.handlers import ASGIRouteHandler
from litestar.types import Receive, Scope, Send

from api.deps import ApiDeps
from api.plain_asgi import header, send_bytes
from domain.errors import NotFound
from runtime import metrics
from runtime.readiness import Ready

DASHBOARD_FILES = Path(__file__).resolve().parents[1] / "dashboard" / "dist"
CONTENT_SECURITY_POLICY = "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"

_NOT_MODIFIED = 304


class Alive(msgspec.Struct, frozen=True):
    status: str = "ok"


class OperationsController(Controller):
    tags = ("operations",)

    @get("/healthz")
    async def healthz(self) -> Alive:
        """The process runs and its event loop turns."""
        return Alive()

    @get("/readyz")
    async def readyz(self, deps: ApiDeps) -> Response[Ready]:
        """200 when events can be taken and checks answered, else 503 with the names of what is `missing` for that.

        `degraded` names what is away although this process serves: queries or changes that need it are answered 503.
        """
        ready = await deps.readiness.ask()
        return Response(ready, status_code=ready.status)

    @get("/metrics", media_type=metrics.CONTENT_TYPE)
    async def metrics(self) -> Response[bytes]:
        """All metrics of this process, for Prometheus."""
        return Response(metrics.exposition(), media_type=metrics.CONTENT_TYPE)


class StaticFile(msgspec.Struct, frozen=True, kw_only=True):
    body: bytes
    media_type: str
    etag: str
    is_hashed: bool  # its name changes with its content, so it may be kept for ever


class StaticFiles:
    """The files below a directory, read once into memory: they are few, small and do not change while we run."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, StaticFile] | None = None

    def find(self, path: str) -> StaticFile:
        """The file at `path` ("" and "/" are index.html). Raises NotFound."""
        if not self._files:
            self._files = {str(file.relative_to(self._directory)): _read(file) for file in self._listing()}
        found = self._files.get(path.strip("/") or "index.html")
        if found is None:
            built = bool(self._files)
            raise NotFound("not_found", "no such file" if built else "the dashboard is not built: `make dashboard`")
        return found

    def _listing(self) -> list[Path]:
        return [file for file in sorted(self._directory.rglob("*")) if file.is_file()]


def _read(file: Path) -> StaticFile:
    body = file.read_bytes()
    guessed, _ = mimetypes.guess_type(file.name)
    media_type = guessed or "application/octet-stream"
    if media_type.startswith("text/") or media_type.endswith(("javascript", "json")):
        media_type += "; charset=utf-8"
    etag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
    return StaticFile(body=body, media_type=media_type, etag=etag, is_hashed=file.parent.name == "assets")


def dashboard_route(directory: Path = DASHBOARD_FILES) -> ASGIRouteHandler:
    """`/dashboard/...`: the built pages; nothing from elsewhere may run or load in them."""
    files = StaticFiles(directory)

    @asgi("/dashboard", is_mount=True, copy_scope=False)
    async def dashboard(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - ASGI's signature
        await _serve(files.find(scope["path"]), scope, send)

    return dashboard


async def _serve(file: StaticFile, scope: Any, send: Send) -> None:
    headers = {
        "etag": file.etag,
        "cache-control": "public, max-age=31536000, immutable" if file.is_hashed else "no-cache",
        "content-security-policy": CONTENT_SECURITY_POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }
    if header(scope, b"if-none-match") == file.etag:
        await send_bytes(send, _NOT_MODIFIED, b"", headers=headers)
    else:
        await send_bytes(send, 200, file.body, media_type=file.media_type, headers=headers)
