"""The API on books that were closed, for tests of what it says about their invoices."""

import asyncio
from typing import Any

import msgspec
from temporalio.testing import ActivityEnvironment

from api.app import Api, create_app
from api.auth import Authenticator
from api.deps import ApiDeps
from api.limits_view import LimitsView
from runtime.clock import SystemClock
from runtime.settings import Settings
from schemas.closing import ClosingBatch, DueQuestion
from stores.kafka import Producer
from stores.postgres.keys import ApiKeys
from tests.support.asgi import request
from tests.support.closing import Books
from tests.support.usage_events import ENVIRONMENT, TENANT


async def close_all(made: Books) -> None:
    """One run of the closing, over all that is due."""
    activities, run = made.activities(), ActivityEnvironment().run
    cutoff = (await run(activities.take_cutoff)).cutoff
    assert cutoff is not None
    page = await run(activities.find_due, DueQuestion(cutoff=cutoff))
    await run(activities.close_batch, ClosingBatch(cutoff=cutoff, periods=page.periods))


def api_of(made: Books) -> Api:
    """To be called on the running event loop."""
    settings = Settings()
    keys = ApiKeys(made.engine, SystemClock(), made.ids)
    return create_app(
        ApiDeps(
            settings=settings,
            clock=SystemClock(),
            ids=made.ids,
            engine=made.engine,
            producer=Producer(settings.kafka),
            auth=Authenticator(keys, 2.0, asyncio.get_running_loop().time),
            limits=LimitsView(settings.kafka),
            stopping=asyncio.Event(),
            clickhouse=made.clickhouse,
        )
    )


async def key(made: Books, *scopes: str, tenant: str = TENANT) -> dict[str, str]:
    """The header with a key that holds these scopes."""
    _, secret = await ApiKeys(made.engine, SystemClock(), made.ids).create(tenant, ENVIRONMENT, scopes)
    return {"authorization": f"Bearer {secret.reveal()}"}


async def get(app: Api, url: str, headers: dict[str, str]) -> tuple[int, Any]:
    async with request(app, "GET", url, headers) as answer:
        return answer.status, await answer.json()


async def send(
    app: Api, method: str, url: str, headers: dict[str, str], body: object
) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body of a request with a JSON body."""
    sent = {**headers, "content-type": "application/json"}
    async with request(app, method, url, sent, msgspec.json.encode(body)) as answer:
        return answer.status, answer.headers, await answer.json()


async def fetch(app: Api, url: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body as they are."""
    async with request(app, "GET", url, headers) as answer:
        return answer.status, answer.headers, await answer.body()
