"""`/v1/invoices`: what closed periods came to, and what the running one comes to. Finalized ones never change."""

from typing import Any

from litestar import Controller, MediaType, Request, Response, get, post

from api.auth import Principal, require
from api.conventions import Page, PageLimit, page_of
from api.deps import ApiDeps
from api.invoice_documents import document_of
from api.live import watch_of
from api.rendering import CSV, HTML, PDF
from api.usage_question import clickhouse_of
from schemas.billing import Recomputation
from schemas.closing import Cutoff
from schemas.invoices import KeptInvoice, PreviewRequest, UpcomingInvoice
from stores.billing import recompute
from stores.postgres import customers, invoices
from stores.postgres.cutoffs import reach_of
from stores.postgres.cuts import Cuts
from stores.postgres.engine import transaction
from stores.upcoming import read_upcoming, subscription_meant

# A preview shall be there at once: a cutoff that takes longer to be complete is left for the former one.
COMPLETE_WITHIN_S = 0.05


class InvoicesController(Controller):
    path = "/v1/invoices"
    tags = ("invoices",)

    @get("/", guards=[require("invoices:read")])
    async def list(
        self,
        principal: Principal,
        deps: ApiDeps,
        limit: PageLimit = 50,
        cursor: str | None = None,
        customer: str | None = None,
        subscription: str | None = None,
    ) -> Page[KeptInvoice]:
        """Oldest first, with their lines."""
        async with transaction(deps.engine) as conn:
            of_customer = None
            if customer is not None:
                of_customer = (await customers.get_customer(conn, principal.scope, customer)).id
            found = await invoices.list_invoices(
                conn,
                principal.scope,
                limit=limit,
                after=cursor,
                customer_id=of_customer,
                subscription_id=subscription,
            )
        return page_of(found, limit)

    @post("/preview", guards=[require("invoices:read")], status_code=200)
    async def preview(
        self, request: Request[Any, Any, Any], data: PreviewRequest, principal: Principal, deps: ApiDeps
    ) -> UpcomingInvoice:
        """What the running period comes to so far, as it would be billed. Safe to repeat: no invoice is made."""
        clickhouse, now = clickhouse_of(deps), deps.clock.now()
        subscription_id = await subscription_meant(deps.engine, principal.scope, data, now)
        min_interval_s = deps.settings.closing.cut_min_interval_s
        cut = await Cuts(deps.engine).newest_complete(min_interval_s, now, COMPLETE_WITHIN_S)
        topic_id = await watch_of(request.app.state, deps).reader.topic_id()
        reach = await reach_of(deps.engine, topic_id, cut)
        cutoff = Cutoff(cut=cut, as_of=reach.as_of)
        return await read_upcoming(deps.engine, clickhouse, subscription_id, cutoff, now)

    @get("/{invoice:str}/recompute", guards=[require("invoices:read")])
    async def recompute(self, invoice: str, principal: Principal, deps: ApiDeps) -> Recomputation:
        """The invoice computed again at its cut, from minute aggregates and from raw events, beside what was billed."""
        return await recompute(deps.engine, clickhouse_of(deps), principal.scope, invoice)

    @get("/{invoice:str}", guards=[require("invoices:read")])
    async def get(
        self, request: Request[Any, Any, Any], invoice: str, principal: Principal, deps: ApiDeps
    ) -> Response[KeptInvoice]:
        """By id or number. `steps` of a line say how its amount came about.

        `Accept: application/pdf`, `text/html` and `text/csv` answer its document.
        """
        wanted = request.accept.best_match([MediaType.JSON, PDF, HTML, CSV])
        if wanted in (PDF, HTML, CSV):
            return await document_of(request, deps, principal, invoice, wanted)
        async with transaction(deps.engine) as conn:
            found = await invoices.get_invoice(conn, principal.scope, invoice)
        return Response(found, media_type=MediaType.JSON, headers={"vary": "Accept"})
