"""`GET /v1/usage`: usage of a meter, by window and dimension, now or as it was known at a cut."""

from typing import Any

import msgspec
from litestar import Controller, MediaType, Request, Response, get

from api.auth import Principal, require
from api.cuts import as_of_answer
from api.deps import ApiDeps
from api.usage_question import (
    ASKED,
    UsageAnswer,
    UsageParameters,
    answer_of,
    clickhouse_of,
    csv_of,
    usage_query,
)
from stores.clickhouse.usage import UsageStore

CSV = "text/csv"


class UsageController(Controller):
    path = "/v1/usage"
    tags = ("usage",)

    @get("/", guards=[require("usage:read")], dependencies=ASKED)
    async def usage(
        self, request: Request[Any, Any, Any], principal: Principal, deps: ApiDeps, asked: UsageParameters
    ) -> Response[UsageAnswer | str]:
        """Windows of the range and the aggregate over it. `Accept: text/csv` answers the windows as CSV.

        `at` is a cut: the answer is the one that could be given when it was raised, for ever (protocol 10).
        """
        query = await usage_query(deps, principal, asked, default_end=deps.clock.now())
        # protocol 26: read before the data.
        as_of = await as_of_answer(request, deps, query.cut)
        usage = await UsageStore(clickhouse_of(deps)).usage(query)
        answer = answer_of(usage, as_of, query.cut)
        if request.accept.best_match([MediaType.JSON, CSV]) == CSV:
            headers = {"as-of": str(msgspec.to_builtins(answer.as_of)), "usage-total": answer.total or ""}
            return Response(csv_of(query, answer), media_type=f"{CSV}; charset=utf-8", headers=headers)
        return Response(answer, media_type=MediaType.JSON)
