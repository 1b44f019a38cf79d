"""`GET /v1/usage/stream`: the answer of `/v1/usage`, and then every change of it, within a moment of its being stored."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from litestar import Controller, Request, get
from litestar.response import Stream
from msgspec import Struct

from api.auth import Principal, require
from api.deps import ApiDeps
from api.live import BACKOFF_S, LedgerWatch, watch_of
from api.sse import HEARTBEAT_S, frame, stream, vector_id
from api.usage_question import (
    ASKED,
    UsageItem,
    UsageParameters,
    answer_of,
    clickhouse_of,
    item_of,
    scope_of,
    usage_query,
)
from domain.errors import Invalid, Unavailable
from domain.quantities import format_quantity
from domain.usage_questions import check_followed
from schemas.scope import Scope
from schemas.usage import Usage, UsageQuery, UsageRow
from stores.clickhouse.usage import UsageStore
from stores.postgres.progress import Progress

DEFAULT_AHEAD = timedelta(days=1)
# Queries of all streams of this process at once: the answers to plain requests come first.
MAX_QUERIES = 4
_SLOTS = "usage_stream_slots"

Key = tuple[datetime, tuple[tuple[str, str | None], ...]]


class UsageChange(Struct, frozen=True, kw_only=True):
    """Windows whose value is another one now, with the new absolute value: applying a change twice is harmless."""

    items: list[UsageItem]
    total: str | None
    as_of: datetime


class Heartbeat(Struct, frozen=True, kw_only=True):
    as_of: datetime


class UsageStreamController(Controller):
    path = "/v1/usage/stream"
    tags = ("usage",)

    @get("/", guards=[require("usage:read")], dependencies=ASKED)
    async def follow(
        self, request: Request[Any, Any, Any], principal: Principal, deps: ApiDeps, asked: UsageParameters
    ) -> Stream:
        """Events `snapshot` (the body of `/v1/usage`), `change` and, once a second, `heartbeat`.

        A client that comes back with `Last-Event-ID` gets a fresh snapshot, which says everything it missed.
        `to` is a day ahead where it is not given.
        """
        if asked.at is not None:
            raise Invalid("stream_is_live", "a stream tells what changes, and what was known at a cut never does")
        query = await usage_query(deps, principal, asked, default_end=deps.clock.now() + DEFAULT_AHEAD)
        check_followed(query)
        watch = watch_of(request.app.state, deps)
        watch.check_room()
        # Read before the answer begins, so that what is wrong with the question is an error and no broken stream.
        progress = await watch.reader.progress()
        store = UsageStore(clickhouse_of(deps))
        follower = _Follower(
            query=query,
            scope=scope_of(principal),
            store=store,
            watch=watch,
            stopping=deps.stopping,
            slots=request.app.state.setdefault(_SLOTS, asyncio.Semaphore(MAX_QUERIES)),
        )
        return stream(follower.frames(await store.usage(query), progress))


class _Follower:
    """One stream: reads its query again only when events of its tenant were stored, one read at a time."""

    def __init__(
        self,
        *,
        query: UsageQuery,
        scope: Scope,
        store: UsageStore,
        watch: LedgerWatch,
        stopping: asyncio.Event,
        slots: asyncio.Semaphore,
    ) -> None:
        self._query = query
        self._scope = scope
        self._store = store
        self._watch = watch
        self._stopping = stopping
        self._slots = slots

    async def frames(self, usage: Usage, progress: Progress) -> AsyncIterator[bytes]:
        async with self._watch.listening():
            yield frame("snapshot", answer_of(usage, progress.as_of), vector_id(progress.vector))
            revision = -1  # what was done between the snapshot and the first poll is looked for once
            monotonic = asyncio.get_running_loop().time
            beat_at = monotonic() + HEARTBEAT_S
            while not self._stopping.is_set():
                seen = await self._watch.changed(self._scope, revision, max(0.0, beat_at - monotonic()))
                last_id = vector_id(seen.progress.vector)
                if seen.revision != revision:
                    began_at = monotonic()
                    fresh = await self._read()
                    took_s = monotonic() - began_at
                    if fresh is not None:
                        revision = seen.revision
                        change = change_between(usage, fresh, seen.progress.as_of)
                        usage = fresh
                        if change is not None:
                            yield frame("change", change, last_id)
                    # It rests as long as its reading took: a busy store is asked less often.
                    await asyncio.sleep(min(took_s, HEARTBEAT_S))
                if monotonic() >= beat_at:
                    yield frame("heartbeat", Heartbeat(as_of=seen.progress.as_of), last_id)
                    beat_at = monotonic() + HEARTBEAT_S

    async def _read(self) -> Usage | None:
        """None while ClickHouse is away: the stream goes on, and its `as_of` says that it knows nothing newer."""
        try:
            async with self._slots:
                return await self._store.usage(self._query)
        except Unavailable:
            await asyncio.sleep(BACKOFF_S)
            return None


def change_between(before: Usage, after: Usage, as_of: datetime) -> UsageChange | None:
    """The windows of `after` that `before` did not have or had with another value; None when nothing changed."""
    known = _values(before.rows)
    changed = [item_of(row) for row in after.rows if known.get(_key(row), ...) != row.value]
    if not changed and before.total == after.total:
        return None
    return UsageChange(items=changed, total=None if after.total is None else format_quantity(after.total), as_of=as_of)


def _values(rows: tuple[UsageRow, ...]) -> Mapping[Key, object]:
    return {_key(row): row.value for row in rows}


def _key(row: UsageRow) -> Key:
    return (row.window_start, tuple(row.dimensions.items()))
