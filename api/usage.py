"""`GET /v1/usage`: usage of a meter, by window and dimension."""

from typing import Annotated, Any

import msgspec
from litestar import Controller, MediaType, Request, Response, get
from litestar.params import QueryParameter

from api.auth import Principal, require
from api.deps import ApiDeps
from api.live import watch_of
from api.usage_question import UsageAnswer, UsageParameters, answer_of, clickhouse_of, csv_of, usage_query
from stores.clickhouse.usage import UsageStore

CSV = "text/csv"

From = Annotated[str | None, QueryParameter(name="from", description="start, included; default 30 days before `to`")]
To = Annotated[str | None, QueryParameter(name="to", description="end, excluded; default now")]
Window = Annotated[
    str | None, QueryParameter(description="minute, hour, day, week, month, PT<n>M or PT<n>H; default the whole range")
]
GroupBy = Annotated[list[str] | None, QueryParameter(name="group_by", description="dimensions; repeated or by comma")]


def parameters(
    *,
    meter: str,
    customer: str | None,
    start: str | None,
    end: str | None,
    window: str | None,
    timezone: str,
    group_by: list[str] | None,
) -> UsageParameters:
    return UsageParameters(
        meter=meter,
        customer=customer,
        start=start,
        end=end,
        window=window,
        timezone=timezone,
        group_by=tuple(group_by or ()),
    )


class UsageController(Controller):
    path = "/v1/usage"
    tags = ("usage",)

    @get("/", guards=[require("usage:read")])
    async def usage(
        self,
        request: Request[Any, Any, Any],
        principal: Principal,
        deps: ApiDeps,
        meter: str,
        customer: str | None = None,
        start: From = None,
        end: To = None,
        window: Window = None,
        timezone: str = "UTC",
        group_by: GroupBy = None,
    ) -> Response[UsageAnswer | str]:
        """Windows of the range and the aggregate over it. `Accept: text/csv` answers the windows as CSV."""
        sent = parameters(
            meter=meter,
            customer=customer,
            start=start,
            end=end,
            window=window,
            timezone=timezone,
            group_by=group_by,
        )
        query = await usage_query(deps, principal, sent, default_end=deps.clock.now())
        # protocol 26: read before the data.
        progress = await watch_of(request.app.state, deps).reader.progress()
        usage = await UsageStore(clickhouse_of(deps)).usage(query)
        answer = answer_of(usage, progress.as_of)
        if request.accept.best_match([MediaType.JSON, CSV]) == CSV:
            headers = {"as-of": str(msgspec.to_builtins(answer.as_of)), "usage-total": answer.total or ""}
            return Response(csv_of(query, answer), media_type=f"{CSV}; charset=utf-8", headers=headers)
        return Response(answer, media_type=MediaType.JSON)
