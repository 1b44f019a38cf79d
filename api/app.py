"""The HTTP application. `CONTROLLERS` is the list of all resources."""

import asyncio
from collections.abc import Sequence
from typing import Any

from litestar import Litestar, Request
from litestar.datastructures import State
from litestar.di import Provide
from litestar.types import ControllerRouterHandler

from api.addon_versions import AddonVersionsController
from api.addons import AddonsController
from api.auth import provide_principal
from api.check import CHECK_PATH, CheckController, CheckHandler
from api.customers import CustomersController
from api.cuts import CutsController
from api.deps import ApiDeps
from api.errors import exception_handler
from api.events_read import EventsController, ReconciliationController
from api.events_rejected import RejectedController
from api.features import FeaturesController
from api.ingest import EVENTS_PATH, IngestHandler
from api.invoices import InvoicesController
from api.meter_issues import MeterIssuesController
from api.meters import MetersController
from api.openapi import openapi_config, openapi_json
from api.operations import OperationsController, dashboard_route
from api.plain_asgi import send_bytes
from api.plan_versions import PlanVersionsController
from api.plans import PlansController
from api.prices import PricesController
from api.settings import SettingsController
from api.stats import StatsController
from api.subscription_changes import SubscriptionChangesController
from api.subscriptions import SubscriptionsController
from api.usage import UsageController
from api.usage_stream import UsageStreamController

CONTROLLERS: Sequence[ControllerRouterHandler] = (
    OperationsController,
    UsageController,
    UsageStreamController,
    CutsController,
    StatsController,
    EventsController,
    RejectedController,
    ReconciliationController,
    MetersController,
    MeterIssuesController,
    FeaturesController,
    PlansController,
    PlanVersionsController,
    AddonsController,
    AddonVersionsController,
    PricesController,
    CustomersController,
    SubscriptionChangesController,
    SubscriptionsController,
    SettingsController,
    CheckController,
    InvoicesController,
)


async def provide_deps(request: Request[Any, Any, Any]) -> ApiDeps:
    """For handlers that take `deps: ApiDeps`."""
    deps: ApiDeps = request.app.state.deps
    return deps


class Api(Litestar):
    """The application, with `POST /v1/events` and `POST /v1/check` in front of the router.

    Their handlers are bare ASGI: of Litestar's work on a request (routing, dependencies, models, exceptions) they need
    nothing, and a single event or check must cost microseconds. The router serves every other method of those paths.
    """

    ingest: IngestHandler
    check: CheckHandler
    active: int = 0
    """Requests that are not answered yet."""
    idle: asyncio.Event

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        self.active += 1
        self.idle.clear()
        try:
            if scope["path"] == EVENTS_PATH and scope["method"] == "POST":
                await self.ingest(scope, receive, send)
            elif scope["path"] == CHECK_PATH and scope["method"] == "POST":
                await self.check(scope, receive, send)
            elif scope["path"] == "/dashboard":
                # The pages' own links are relative to the directory.
                await send_bytes(send, 308, b"", headers={"location": "/dashboard/"})
            else:
                await super().__call__(scope, receive, send)
        finally:
            self.active -= 1
            if not self.active:
                self.idle.set()

    async def drained(self, within_s: float) -> bool:
        """Waits until no request is being worked on; False when some still are after `within_s`."""
        try:
            async with asyncio.timeout(within_s):
                await self.idle.wait()
        except TimeoutError:
            return False
        return True


def create_app(deps: ApiDeps) -> Api:
    """The application around objects that are already open; whoever opened them closes them."""
    app = Api(
        route_handlers=[*CONTROLLERS, openapi_json, dashboard_route()],
        dependencies={"deps": Provide(provide_deps), "principal": Provide(provide_principal)},
        exception_handlers={Exception: exception_handler},
        openapi_config=openapi_config(),
        state=State({"deps": deps}),
        logging_config=None,
        request_max_body_size=deps.settings.api.body_max_bytes,
    )
    app.ingest = IngestHandler(deps)
    app.check = CheckHandler(deps)
    app.idle = asyncio.Event()
    app.idle.set()
    return app
