"""The schema at /openapi.json and its rendering at /docs, with nothing from outside."""

from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin


def openapi_config() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Meterstream", version="1", path="/", render_plugins=[JsonRenderPlugin(path="/openapi.json")]
    )
