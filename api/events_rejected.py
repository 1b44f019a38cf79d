"""`/v1/events/rejected`: what the worker refused, how much of it, and sending it again."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.params import QueryParameter
from msgspec import Struct

from api.auth import Principal, require
from api.conventions import PageLimit, answered_once
from api.deps import ApiDeps
from api.errors import ScopeMissing
from api.live import watch_of
from api.replay import Replayer
from api.usage_question import From, To, clickhouse_of, parse_instant, references_named
from domain.errors import Invalid, NotFound
from domain.events import exact_decoder
from domain.replay import Fix
from schemas.event_records import EventPosition, RefusedEvent
from schemas.keys import OPERATOR
from schemas.replays import ReplayAnswer, ReplayedEvent, ReplayFilter, ReplayRequest, SentPosition
from schemas.scope import Scope
from stores.clickhouse.pages import cursor_after
from stores.clickhouse.rejected import RefusedCode, RefusedFilter, RefusedPage, RefusedStore
from stores.postgres.engine import autocommit
from stores.postgres.replays import find_replays

NOBODY = Scope("", "")
# Originals that one request may work on.
REPLAY_MAX_BYTES = 32 << 20

Unowned = Annotated[bool, QueryParameter(description="what is nobody's; needs the scope `operator`")]
PartitionNumber = Annotated[int | None, QueryParameter(ge=0, le=65_535, description="of usage.raw")]

_decoder = exact_decoder(ReplayRequest)


class RejectedPage(Struct, frozen=True, kw_only=True):
    """Everything that was refused of events answered 202 before `as_of` is there."""

    items: list[RefusedEvent]
    next_cursor: str | None
    as_of: datetime


class RejectedCounts(Struct, frozen=True, kw_only=True):
    """By code, the most frequent first."""

    items: list[RefusedCode]
    total: int
    as_of: datetime


class RejectedController(Controller):
    path = "/v1/events/rejected"
    tags = ("events",)

    @get("/", guards=[require("usage:read")])
    async def list(
        self,
        request: Request[Any, Any, Any],
        principal: Principal,
        deps: ApiDeps,
        code: str | None = None,
        customer: str | None = None,
        source: str | None = None,
        event_id: Annotated[str | None, QueryParameter(name="id")] = None,
        partition: PartitionNumber = None,
        start: From = None,
        end: To = None,
        limit: PageLimit = 50,
        cursor: str | None = None,
        *,
        unowned: Unowned = False,
    ) -> RejectedPage:
        """Events that could not be accepted after the log had them, newest first, with what was sent and what it was
        replayed as. `from` and `to` are of log time.
        """
        scope = _owner(principal, unowned=unowned)
        sent = ReplayFilter(
            code=code, customer=customer, source=source, id=event_id, partition=partition, start=start, end=end
        )
        wanted = await _filter(deps, scope, sent)
        # protocol 26: read before the data.
        progress = await watch_of(request.app.state, deps).reader.progress()
        page = await RefusedStore(clickhouse_of(deps)).page(scope, wanted, limit=limit, cursor=cursor)
        async with autocommit(deps.engine) as conn:
            replays = await find_replays(conn, [one.position for one in page.items])
        items = [msgspec.structs.replace(one, replay=replays.get(one.position)) for one in page.items]
        return RejectedPage(items=items, next_cursor=page.next_cursor, as_of=progress.as_of)

    @get("/counts", guards=[require("usage:read")])
    async def counts(
        self,
        request: Request[Any, Any, Any],
        principal: Principal,
        deps: ApiDeps,
        customer: str | None = None,
        source: str | None = None,
        partition: PartitionNumber = None,
        start: From = None,
        end: To = None,
        *,
        unowned: Unowned = False,
    ) -> RejectedCounts:
        """How many by each code."""
        scope = _owner(principal, unowned=unowned)
        sent = ReplayFilter(customer=customer, source=source, partition=partition, start=start, end=end)
        wanted = await _filter(deps, scope, sent)
        progress = await watch_of(request.app.state, deps).reader.progress()
        found = await RefusedStore(clickhouse_of(deps)).counts(scope, wanted)
        return RejectedCounts(items=found, total=sum(one.count for one in found), as_of=progress.as_of)

    @post("/replay", guards=[require("events:write"), require("usage:read")], status_code=200)
    async def replay(
        self, request: Request[Any, Any, Any], data: ReplayRequest, principal: Principal, deps: ApiDeps
    ) -> Response[bytes]:
        """Send rejected events again, mended or as they are. Repeating it counts nothing twice."""
        scope = _owner(principal, unowned=data.unowned)
        # Once more, with numbers as they were sent: the framework reads fractions as floats.
        asked = _decoder.decode(await request.body())
        _check(asked)

        async def work() -> ReplayAnswer:
            return await _replay(deps, principal, scope, asked)

        return await answered_once(request, deps, principal, work)


def _owner(principal: Principal, *, unowned: bool) -> Scope:
    """Raises ScopeMissing: what is nobody's may be anybody's, so `*` of one tenant is not enough."""
    if not unowned:
        return principal.scope
    if OPERATOR not in principal.scopes:
        raise ScopeMissing(f"the key lacks the scope {OPERATOR}, which must be named")
    return NOBODY


async def _filter(deps: ApiDeps, scope: Scope, sent: ReplayFilter) -> RefusedFilter:
    references: tuple[str, ...] | None = None
    if sent.customer is not None:
        try:
            references = await references_named(deps, scope, sent.customer)
        except NotFound:  # an unknown customer may be why it was refused
            references = (sent.customer,)
    return RefusedFilter(
        code=sent.code,
        references=references,
        source=sent.source,
        id=sent.id,
        partition=sent.partition,
        start=parse_instant("from", sent.start),
        end=parse_instant("to", sent.end),
    )


def _check(asked: ReplayRequest) -> None:
    """Raises Invalid `replay_ambiguous`."""
    if (asked.positions is None) == (asked.filter is None):
        raise Invalid("replay_ambiguous", "give either `positions` or `filter`")
    if asked.event is not None and (asked.patch is not None or asked.positions is None or len(asked.positions) != 1):
        raise Invalid("replay_ambiguous", "an `event` stands in for one position, and is not patched")


async def _replay(deps: ApiDeps, principal: Principal, scope: Scope, asked: ReplayRequest) -> ReplayAnswer:
    store = RefusedStore(clickhouse_of(deps))
    following = None
    if asked.positions is not None:
        positions = list(dict.fromkeys(_position(one) for one in asked.positions))
        if len(positions) > 1 and await store.bytes_of(scope, positions) > REPLAY_MAX_BYTES:
            raise Invalid("replay_too_large", f"at most {REPLAY_MAX_BYTES} bytes of originals at once: ask for fewer")
    else:
        wanted = await _filter(deps, scope, asked.filter or ReplayFilter())
        page = await store.page(scope, wanted, limit=asked.limit, cursor=asked.cursor, shown_bytes=0)
        taken = _fitting(page)
        positions = [one.position for one in taken]
        cut_short = len(taken) < len(page.items)
        following = cursor_after(taken[-1].logged_at, taken[-1].position) if cut_short else page.next_cursor
    found = await store.originals(scope, positions) if positions else {}
    known = [found[position] for position in positions if position in found]
    replayer = Replayer(deps, principal)
    done = await replayer.replay(known, Fix(patch=asked.patch, event=asked.event), dry_run=asked.dry_run)
    items = [*done, *(_missing(position) for position in positions if position not in found)]
    accepted = sum(one.status == "accepted" for one in items)
    return ReplayAnswer(
        dry_run=asked.dry_run,
        accepted=accepted,
        rejected=len(items) - accepted,
        items=items,
        next_cursor=following,
    )


def _position(sent: SentPosition) -> EventPosition:
    return EventPosition(topic_id=sent.topic_id, partition=sent.partition, offset=sent.offset, index=sent.index)


def _fitting(page: RefusedPage) -> list[RefusedEvent]:
    """As many as may be worked on at once, and at least one."""
    taken: list[RefusedEvent] = []
    size = 0
    for one in page.items:
        size += one.original_bytes
        if taken and size > REPLAY_MAX_BYTES:
            break
        taken.append(one)
    return taken


def _missing(position: EventPosition) -> ReplayedEvent:
    return ReplayedEvent(
        position=position,
        status="rejected",
        code="rejected_event_not_found",
        message="nothing of yours was rejected at this position",
    )
