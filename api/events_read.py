"""`GET /v1/events...`: what was sent and what became of it; `GET /v1/reconciliation`: that nothing was lost."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from litestar import Controller, Request, get
from litestar.params import QueryParameter
from msgspec import Struct, structs

from api.auth import Principal, require
from api.conventions import PageLimit
from api.cuts import as_of_answer
from api.deps import ApiDeps
from api.live import watch_of
from api.usage_question import At, From, To, clickhouse_of, parse_instant, references_named, scope_of
from domain.errors import Invalid, NotFound
from schemas.event_records import DuplicateEvent, RefusedEvent, StoredEvent
from stores.clickhouse.events import EventFilter, EventStore
from stores.clickhouse.reconcile import RowsOfHour, rows_by_hour
from stores.postgres.engine import autocommit
from stores.postgres.event_lines import EventLine, lines_of_event
from stores.postgres.replays import find_replays

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)
MAX_RECONCILED = timedelta(days=400)


class EventList(Struct, frozen=True, kw_only=True):
    """Every event accepted before `as_of` was looked at."""

    items: list[StoredEvent]
    next_cursor: str | None
    as_of: datetime


class EventAnswer(Struct, frozen=True, kw_only=True):
    """What became of one (source, id). `lines` are the invoice lines that its usage is in.

    `conflict`: some copy says something else than the event that stands.
    """

    source: str
    id: str
    status: str
    conflict: bool
    event: StoredEvent | None
    duplicates: tuple[DuplicateEvent, ...]
    rejections: tuple[RefusedEvent, ...]
    lines: tuple[EventLine, ...]
    as_of: datetime


class ReconciledHour(Struct, frozen=True, kw_only=True):
    """One receipt hour: `accepted` is what the ledger counted, the others are the rows that the tables hold.

    `difference` is accepted - stored - duplicate - rejected: other than 0, something is lost or counted twice.
    """

    hour: datetime
    accepted: int
    stored: int
    duplicate: int
    rejected: int
    difference: int


class Reconciliation(Struct, frozen=True, kw_only=True):
    items: list[ReconciledHour]
    difference: int
    as_of: datetime


class EventsController(Controller):
    path = "/v1/events"
    tags = ("events",)

    @get("/", guards=[require("usage:read")])
    async def list(
        self,
        request: Request[Any, Any, Any],
        principal: Principal,
        deps: ApiDeps,
        customer: str | None = None,
        event_type: Annotated[str | None, QueryParameter(name="type")] = None,
        event_id: Annotated[str | None, QueryParameter(name="id")] = None,
        start: From = None,
        end: To = None,
        at: At = None,
        limit: PageLimit = 50,
        cursor: str | None = None,
    ) -> EventList:
        """Accepted events, newest first by their own time; those that were known at the cut `at`, if one is named."""
        scope = scope_of(principal)
        wanted = EventFilter(
            references=await references_named(deps, scope, customer),
            type=event_type,
            id=event_id,
            start=parse_instant("from", start),
            end=parse_instant("to", end),
            cut=at,
        )
        # protocol 26: read before the data.
        as_of = await as_of_answer(request, deps, at)
        page = await EventStore(clickhouse_of(deps)).stored(scope, wanted, limit=limit, cursor=cursor)
        return EventList(items=page.items, next_cursor=page.next_cursor, as_of=as_of)

    @get("/lookup", guards=[require("usage:read")])
    async def lookup(
        self,
        request: Request[Any, Any, Any],
        principal: Principal,
        deps: ApiDeps,
        event_id: Annotated[str, QueryParameter(name="id")],
        source: str = "",
    ) -> EventAnswer:
        """Accepted at which position, a duplicate of which, or rejected and why; what counted it; where it is billed."""
        scope = scope_of(principal)
        progress = await watch_of(request.app.state, deps).reader.progress()
        fate = await EventStore(clickhouse_of(deps)).fate(scope, source, event_id)
        if fate is None:
            message = f"no event {event_id!r} of source {source!r} was stored up to {progress.as_of.isoformat()}"
            raise NotFound("event_not_found", message)
        async with autocommit(deps.engine) as conn:
            replays = await find_replays(conn, [one.position for one in fate.rejections])
            lines = tuple(await lines_of_event(conn, scope, fate.event)) if fate.event is not None else ()
        return EventAnswer(
            source=fate.source,
            id=fate.id,
            status=fate.status,
            conflict=any(copy.conflict for copy in fate.duplicates),
            event=fate.event,
            duplicates=fate.duplicates,
            rejections=tuple(structs.replace(one, replay=replays.get(one.position)) for one in fate.rejections),
            lines=lines,
            as_of=progress.as_of,
        )


class ReconciliationController(Controller):
    path = "/v1/reconciliation"
    tags = ("events",)

    @get("/", guards=[require("usage:read")])
    async def reconcile(
        self,
        request: Request[Any, Any, Any],
        principal: Principal,
        deps: ApiDeps,
        start: From = None,
        end: To = None,
    ) -> Reconciliation:
        """Per receipt hour, what the ledger counted against what the tables hold; hours without events are absent."""
        until = parse_instant("to", end) or deps.clock.now() + _HOUR
        since = parse_instant("from", start) or until - timedelta(days=1)
        if not timedelta(0) < until - since <= MAX_RECONCILED:
            raise Invalid("range_out_of_bounds", f"the range is longer than 0 and at most {MAX_RECONCILED.days} days")
        scope = scope_of(principal)
        reader = watch_of(request.app.state, deps).reader
        # Both sides up to the same positions: what is being stored meanwhile is no difference.
        progress = await reader.progress()
        counted = await reader.outcomes_by_hour(scope, progress.vector, since, until)
        held = await rows_by_hour(clickhouse_of(deps), scope, await reader.topic_id(), progress.vector, since, until)
        accepted = {one.hour: one.stored + one.duplicate + one.rejected for one in counted}
        items = [_hour(hour, accepted.get(hour, 0), held.get(hour)) for hour in sorted({*accepted, *held})]
        return Reconciliation(items=items, difference=sum(abs(item.difference) for item in items), as_of=progress.as_of)


def _hour(hour: int, accepted: int, held: RowsOfHour | None) -> ReconciledHour:
    rows = held or RowsOfHour(hour=hour)
    return ReconciledHour(
        hour=_EPOCH + hour * _HOUR,
        accepted=accepted,
        stored=rows.stored,
        duplicate=rows.duplicate,
        rejected=rows.rejected,
        difference=accepted - rows.stored - rows.duplicate - rows.rejected,
    )
