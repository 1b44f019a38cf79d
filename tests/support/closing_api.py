"""The HTTP application over the books of a test of closings."""

import asyncio
from typing import Any

import msgspec

from api.app import Api, create_app
from api.auth import Authenticator
from api.deps import ApiDeps
from api.limits_view import LimitsView
from runtime.clock import SystemClock
from runtime.settings import Settings
from stores.kafka import Producer
from stores.postgres.keys import ApiKeys
from tests.support.asgi import request
from tests.support.closing import Books
from tests.support.usage_events import ENVIRONMENT, TENANT


class BooksApi:
    """Requests by a key of the tenant that may do everything. Its clock is that of the books."""

    def __init__(self, made: Books) -> None:
        settings = Settings()
        self.books = made
        self.keys = ApiKeys(made.engine, SystemClock(), made.ids)
        self.app: Api = create_app(
            ApiDeps(
                settings=settings,
                clock=made.clock,
                ids=made.ids,
                engine=made.engine,
                producer=Producer(settings.kafka),
                auth=Authenticator(self.keys, 2.0, asyncio.get_running_loop().time),
                limits=LimitsView(settings.kafka),
                stopping=asyncio.Event(),
                clickhouse=made.clickhouse,
            )
        )
        self._headers: dict[str, dict[str, str]] = {}

    async def send(self, method: str, url: str, body: Any = None, *, tenant: str = TENANT) -> tuple[int, Any]:
        """Status and decoded body."""
        if tenant not in self._headers:
            _, secret = await self.keys.create(tenant, ENVIRONMENT, ["*"])
            authorized = {"authorization": f"Bearer {secret.reveal()}", "content-type": "application/json"}
            self._headers[tenant] = authorized
        content = b"" if body is None else msgspec.json.encode(body)
        async with request(self.app, method, url, self._headers[tenant], content) as answer:
            return answer.status, await answer.json()
