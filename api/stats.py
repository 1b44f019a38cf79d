"""`GET /v1/stats/stream`: how fast events come in, how fresh usage is, and how far each partition is."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

from litestar import Controller, Request, get
from litestar.response import Stream
from msgspec import Struct

from api.auth import Principal, require
from api.deps import ApiDeps
from api.live import LedgerWatch, watch_of
from api.sse import HEARTBEAT_S, frame, stream, vector_id
from api.usage_question import scope_of
from domain.errors import MeterstreamError
from schemas.scope import Scope
from stores.postgres.progress import Progress


class PartitionStats(Struct, frozen=True, kw_only=True):
    """`lag` is the records behind the end of the log, null where the end is not known."""

    partition: int
    lag: int | None
    last_offset: int
    as_of: datetime


class Stats(Struct, frozen=True, kw_only=True):
    """Totals are of the key's tenant and environment since the beginning; the rate is over the last three seconds."""

    at: datetime
    events_per_second: int
    accepted: int
    stored: int
    duplicate: int
    rejected: int
    as_of: datetime
    freshness_ms: int
    partitions: list[PartitionStats]


class StatsController(Controller):
    path = "/v1/stats/stream"
    tags = ("usage",)

    @get("/", guards=[require("usage:read")])
    async def follow(self, request: Request[Any, Any, Any], principal: Principal, deps: ApiDeps) -> Stream:
        """One event `stats` a second."""
        watch = watch_of(request.app.state, deps)
        watch.check_room()
        await watch.reader.topic_id()  # what is not migrated is an error, and no stream without events
        return stream(_frames(deps, watch, scope_of(principal)))


async def _frames(deps: ApiDeps, watch: LedgerWatch, scope: Scope) -> AsyncIterator[bytes]:
    async with watch.listening():
        while not deps.stopping.is_set():
            stats, event_id = await _stats(deps, watch, scope)
            yield frame("stats", stats, event_id)
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await deps.stopping.wait()
            except TimeoutError:
                continue


async def _stats(deps: ApiDeps, watch: LedgerWatch, scope: Scope) -> tuple[Stats, str]:
    progress = (await watch.seen(scope)).progress
    outcomes, rate = await watch.totals(scope)
    ends = await _ends(deps)
    at = deps.clock.now()
    stats = Stats(
        at=at,
        events_per_second=round(rate),
        accepted=outcomes.accepted,
        stored=outcomes.stored,
        duplicate=outcomes.duplicate,
        rejected=outcomes.rejected,
        as_of=progress.as_of,
        freshness_ms=max(0, int((at - progress.as_of).total_seconds() * 1000)),
        partitions=_partitions(progress, ends),
    )
    return stats, vector_id(progress.vector)


async def _ends(deps: ApiDeps) -> Mapping[int, int]:
    """Empty where the end of the log cannot be asked for, or is not answered."""
    if deps.end_offsets is None:
        return {}
    try:
        return await deps.end_offsets()
    except MeterstreamError:
        return {}


def _partitions(progress: Progress, ends: Mapping[int, int]) -> list[PartitionStats]:
    return [
        PartitionStats(
            partition=one.partition,
            lag=max(0, ends[one.partition] - one.last_offset - 1) if one.partition in ends else None,
            last_offset=one.last_offset,
            as_of=one.as_of,
        )
        for one in progress.partitions
    ]
