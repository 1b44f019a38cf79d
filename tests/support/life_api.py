"""The API on the stores of `Books`, at their clock, with closings beside it."""

import asyncio
from typing import Any, NamedTuple

import msgspec
from temporalio.testing import ActivityEnvironment

from api.app import Api, create_app
from api.auth import Authenticator
from api.deps import ApiDeps
from api.limits_view import LimitsView
from runtime.clock import SystemClock
from runtime.settings import Settings
from schemas.closing import BatchClosed, ClosingBatch, DueQuestion
from stores.kafka import Producer
from stores.postgres.keys import ApiKeys
from tests.support.asgi import request
from tests.support.closing import Books
from tests.support.usage_events import ENVIRONMENT, TENANT


class Answer(NamedTuple):
    status: int
    body: Any
    headers: dict[str, str]


class LifeApi:
    """Requests with a key that may do everything."""

    def __init__(self, made: Books, app: Api, secret: str) -> None:
        self.made = made
        self._app = app
        self._headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}

    async def call(self, method: str, url: str, body: Any = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = b"" if body is None else msgspec.json.encode(body)
        async with request(self._app, method, url, {**self._headers, **named}, sent) as answer:
            return Answer(answer.status, await answer.json(), answer.headers)

    async def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return await self.call("POST", f"/v1/subscriptions{path}", body, **headers)

    async def get(self, path: str) -> Answer:
        return await self.call("GET", f"/v1{path}")

    async def close(self) -> BatchClosed:
        """Closes everything that is due."""
        activities, run = self.made.activities(), ActivityEnvironment().run
        cutoff = (await run(activities.take_cutoff)).cutoff
        assert cutoff is not None
        page = await run(activities.find_due, DueQuestion(cutoff=cutoff))
        return await run(activities.close_batch, ClosingBatch(cutoff=cutoff, periods=page.periods))


async def life_api(made: Books) -> LifeApi:
    settings = Settings()
    keys = ApiKeys(made.engine, SystemClock(), made.ids)
    app = create_app(
        ApiDeps(
            settings=settings,
            clock=made.clock,
            ids=made.ids,
            engine=made.engine,
            producer=Producer(settings.kafka),
            auth=Authenticator(keys, 2.0, asyncio.get_running_loop().time),
            limits=LimitsView(settings.kafka),
            stopping=asyncio.Event(),
            clickhouse=made.clickhouse,
        )
    )
    _, secret = await keys.create(TENANT, ENVIRONMENT, ("*",))
    return LifeApi(made, app, secret.reveal())
