"""From an invoice down to its events: `/v1/invoices/{invoice}/explain`, and the events that a line counts."""

from typing import Annotated

from litestar import Controller, get
from litestar.params import QueryParameter

from api.auth import Principal, require
from api.conventions import PageLimit
from api.deps import ApiDeps
from api.usage_question import clickhouse_of, parse_instant
from documents import explain_invoice
from schemas.explanations import BilledEvents, InvoiceExplanation
from stores.explanations import read_explained, read_line_events, read_line_usage

Line = Annotated[str | None, QueryParameter(name="line", description="the id of one line; default all")]
Window = Annotated[
    str | None, QueryParameter(description="as for usage; default hour, day, month or the period, as can be read")
]
From = Annotated[str | None, QueryParameter(name="from", description="start, included; default the line's period")]
To = Annotated[str | None, QueryParameter(name="to", description="end, excluded; default the line's period")]


class InvoiceExplanationsController(Controller):
    path = "/v1/invoices"
    tags = ("invoices",)

    @get("/{invoice:str}/explain", guards=[require("invoices:read")])
    async def explain(
        self, invoice: str, principal: Principal, deps: ApiDeps, line: Line = None, window: Window = None
    ) -> InvoiceExplanation:
        """Each line with the steps of its price and the windows of its usage, all as known at the invoice's cut.

        Each window has the request that lists its events, a page at a time: so this answer stays small.
        """
        found = await read_explained(deps.engine, principal.scope, invoice)
        usage = await read_line_usage(clickhouse_of(deps), principal.scope, found, line_id=line, window=window)
        basis = found.basis
        return explain_invoice(
            basis.invoice,
            zone=basis.timezone,
            prices=basis.prices,
            meters=basis.meters,
            usage=usage,
            line_id=line,
        )

    @get("/{invoice:str}/lines/{line:str}/events", guards=[require("invoices:read"), require("usage:read")])
    async def events(
        self,
        invoice: str,
        line: str,
        principal: Principal,
        deps: ApiDeps,
        start: From = None,
        end: To = None,
        limit: PageLimit = 50,
        cursor: str | None = None,
    ) -> BilledEvents:
        """The events that the line counts, newest first, with what its meter took of each. The same for ever."""
        return await read_line_events(
            clickhouse_of(deps),
            principal.scope,
            await read_explained(deps.engine, principal.scope, invoice),
            line_id=line,
            start=parse_instant("from", start),
            end=parse_instant("to", end),
            limit=limit,
            cursor=cursor,
        )
