"""The API on a real PostgreSQL, without any other server: for tests of what the catalog keeps."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from api.app import Api, create_app
from api.auth import Authenticator
from api.deps import ApiDeps
from api.limits_view import LimitsView
from runtime.clock import SystemClock
from runtime.ids import Ids
from runtime.settings import Settings
from schemas.scope import Scope
from stores.clickhouse.client import ClickhouseClient
from stores.kafka import Producer
from stores.postgres.engine import create_engine
from stores.postgres.keys import ApiKeys
from tests.support.asgi import request
from tests.support.database import database

SCOPE = Scope("acme", "live")


class Answered(NamedTuple):
    status: int
    body: Any
    etag: str = ""
    replayed: bool = False

    @property
    def code(self) -> str:
        """What is told of an error, in short."""
        return "" if self.status < 400 else str(self.body["code"])


class CatalogApi:
    """One key of one tenant."""

    def __init__(self, app: Api, engine: AsyncEngine, headers: dict[str, str]) -> None:
        self.app = app
        self.engine = engine
        self.headers = headers

    async def send(self, method: str, url: str, body: Any = None, **headers: str) -> Answered:
        """`headers` with underscores for dashes."""
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        raw = b""
        if body is not None:
            raw, sent["content-type"] = msgspec.json.encode(body), "application/json"
        async with request(self.app, method, url, sent, raw) as answer:
            read = await answer.body()
            return Answered(
                answer.status,
                msgspec.json.decode(read) if read else None,
                answer.headers.get("etag", ""),
                "idempotent-replayed" in answer.headers,
            )

    async def made(self, url: str, body: Any) -> Any:
        """What a POST that must succeed answers."""
        answer = await self.send("POST", url, body)
        assert answer.status in {200, 201}, answer.body
        return answer.body


def app_on(engine: AsyncEngine, ids: Ids, clickhouse: ClickhouseClient | None = None) -> Api:
    settings, clock = Settings(), SystemClock()
    return create_app(
        ApiDeps(
            settings=settings,
            clock=clock,
            ids=ids,
            engine=engine,
            producer=Producer(settings.kafka),
            auth=Authenticator(ApiKeys(engine, clock, ids), 2.0, asyncio.get_running_loop().time),
            limits=LimitsView(settings.kafka),
            stopping=asyncio.Event(),
            clickhouse=clickhouse,
        )
    )


@asynccontextmanager
async def catalog_api(postgres_url: str, name: str) -> AsyncIterator[CatalogApi]:
    """On a database called `name`."""
    with database(postgres_url, name) as postgres:
        engine, clock = create_engine(postgres), SystemClock()
        ids = Ids(clock)
        _, secret = await ApiKeys(engine, clock, ids).create(SCOPE.tenant, SCOPE.environment, ["*"])
        yield CatalogApi(app_on(engine, ids), engine, {"authorization": f"Bearer {secret.reveal()}"})
        await engine.dispose()
