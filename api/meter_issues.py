"""`GET /v1/meters/{meter}/issues`: values that a meter could not use. Its events are stored; it did not count them."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any

from litestar import Controller, Request, get
from litestar.params import QueryParameter
from msgspec import Struct

from api.auth import Principal, require
from api.cuts import as_of_answer
from api.deps import ApiDeps
from api.usage_question import At, From, To, clickhouse_of, parse_instant, span_before
from domain.errors import Invalid
from domain.expressions import compile_reads
from domain.properties import Properties, compile_path
from schemas.meters import Meter
from stores.clickhouse.issues import IssueCount, IssueSample, meter_issues
from stores.postgres.engine import autocommit
from stores.postgres.meters import get_meter

_HOUR = timedelta(hours=1)

Limit = Annotated[int, QueryParameter(ge=0, le=500, description="sample events")]


class MeterIssuesAnswer(Struct, frozen=True, kw_only=True):
    """`counts` by code, the most frequent first; `items` are the newest events by their own time, with what was found
    where the value should be. Every event accepted before `as_of` was looked at.
    """

    meter_id: str
    key: str
    counts: list[IssueCount]
    total: int
    items: list[IssueSample]
    as_of: datetime


class MeterIssuesController(Controller):
    path = "/v1/meters/{meter:str}/issues"
    tags = ("meters",)

    @get("/", guards=[require("usage:read")])
    async def issues(
        self,
        request: Request[Any, Any, Any],
        meter: str,
        principal: Principal,
        deps: ApiDeps,
        start: From = None,
        end: To = None,
        at: At = None,
        limit: Limit = 20,
    ) -> MeterIssuesAnswer:
        """Unusable values of this meter's events."""
        # An event may lie an hour ahead.
        until = parse_instant("to", end) or deps.clock.now() + _HOUR
        since = parse_instant("from", start) or span_before(until)
        if since >= until:
            raise Invalid("range_empty", "`to` is after `from`")
        async with autocommit(deps.engine) as conn:
            kept = await get_meter(conn, principal.scope, meter)
        # protocol 26: read before the data.
        as_of = await as_of_answer(request, deps, at)
        found = await meter_issues(
            clickhouse_of(deps), principal.scope, kept.id, _shown(kept), start=since, end=until, limit=limit, cut=at
        )
        return MeterIssuesAnswer(
            meter_id=kept.id,
            key=kept.key,
            counts=found.counts,
            total=sum(one.count for one in found.counts),
            items=found.samples,
            as_of=as_of,
        )


def _shown(meter: Meter) -> Callable[[Properties], Any]:
    """What stood where the value should be: of an expression, all that it reads."""
    if meter.value_expression is not None:
        return compile_reads(meter.value_expression)
    return compile_path(meter.value_property) if meter.value_property else dict
