"""The schema at /openapi.json (OpenAPI 3.1) and its rendering at /docs, which loads nothing from anywhere.

Litestar describes its controllers; what it cannot know is added here: `POST /v1/events` and `POST
/v1/check`, which are bare ASGI, the key, and that every error is a problem.
"""

from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin

from api.check import CHECK_PATH, CheckRefusal, CheckRequest, CheckResult
from api.errors import PROBLEM_JSON, Problem
from api.ingest import EVENTS_PATH
from api.openapi_check import CHECK_OPERATION
from api.openapi_events import INGEST_OPERATION
from api.openapi_examples import with_examples
from api.openapi_page import page
from schemas.events import IngestAnswer, UsageEvent

VERSION = "1"
_METHODS = ("get", "post", "put", "patch", "delete")
_UNGUARDED = ("/healthz", "/readyz", "/metrics")
_PROBLEM = {"$ref": "#/components/responses/Problem"}
_OWN_SCHEMAS = (Problem, IngestAnswer, UsageEvent, CheckRequest, CheckResult, CheckRefusal)


class DocsPlugin(OpenAPIRenderPlugin):
    """/docs: one static page."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        return page(complete(openapi_schema))


def openapi_config() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Meterstream",
        version=VERSION,
        description="Usage events in, money people can trust out.",
        path="/docs",
        render_plugins=[DocsPlugin()],
    )


@get("/openapi.json", include_in_schema=False)
async def openapi_json(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The whole schema."""
    schema = complete(request.app.openapi_schema.to_schema())
    return Response(msgspec.json.encode(schema), media_type="application/json")


def complete(generated: dict[str, Any]) -> dict[str, Any]:
    """The generated schema with what Litestar does not know; the one given is not changed."""
    paths = {path: _path_item(path, item) for path, item in generated.get("paths", {}).items()}
    paths[EVENTS_PATH] = {**paths.get(EVENTS_PATH, {}), "post": INGEST_OPERATION}
    paths[CHECK_PATH] = {"post": CHECK_OPERATION}
    given = generated.get("components", {})
    _, own = msgspec.json.schema_components(_OWN_SCHEMAS, ref_template="#/components/schemas/{name}")
    components = {
        **given,
        "schemas": {**given.get("schemas", {}), **own},
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key, `ms_...`."}},
        "responses": {
            "Problem": {
                "description": "An error: RFC 9457, with a stable `code`. 429 and 503 carry `Retry-After`.",
                "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }
        },
    }
    return {**generated, "paths": dict(sorted(paths.items())), "components": components, "security": [{"key": []}]}


def _path_item(path: str, item: dict[str, Any]) -> dict[str, Any]:
    return {
        name: with_examples(path, name, _operation(path, found)) if name in _METHODS else found
        for name, found in item.items()
    }


def _operation(path: str, operation: dict[str, Any]) -> dict[str, Any]:
    """Our errors in place of Litestar's own 400."""
    responses = {status: answer for status, answer in operation.get("responses", {}).items() if status != "400"}
    completed = {**operation, "responses": {**responses, "default": _PROBLEM}}
    return {**completed, "security": []} if path in _UNGUARDED else completed
