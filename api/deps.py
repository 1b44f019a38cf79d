"""What handlers work with: wired once by the main, read everywhere, never changed."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from api.auth import Authenticator
from api.entitlements_view import EntitlementsView
from api.limits_view import LimitsView
from runtime.clock import Clock
from runtime.ids import Ids
from runtime.readiness import Readiness
from runtime.settings import Settings
from stores.clickhouse.client import ClickhouseClient
from stores.kafka import Producer


class ApiDeps(msgspec.Struct, frozen=True, kw_only=True):
    """Each field is an object that is already open. A handler takes `deps: ApiDeps` and gets it by that name.

    A part that this process runs without is None; `/readyz` says what is missing.
    """

    settings: Settings
    clock: Clock
    ids: Ids
    engine: AsyncEngine
    producer: Producer
    auth: Authenticator
    limits: LimitsView
    stopping: asyncio.Event
    """Set when the process is told to stop: an answer without an end (a stream of events) ends then."""
    readiness: Readiness = Readiness()
    clickhouse: ClickhouseClient | None = None
    end_offsets: Callable[[], Awaitable[Mapping[int, int]]] | None = None
    """Partition of usage.raw -> offset of the next record, for the lag of partitions. Raises Unavailable."""
    entitlements: EntitlementsView | None = None
    """The in-memory view of entitlements.state."""
