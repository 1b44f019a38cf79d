"""`/v1/invoices`: what closed periods came to. Finalized ones never change."""

from typing import Any

from litestar import Controller, MediaType, Request, Response, get

from api.auth import Principal, require
from api.conventions import Page, PageLimit, page_of
from api.deps import ApiDeps
from api.invoice_documents import document_of
from api.rendering import CSV, HTML, PDF
from api.usage_question import clickhouse_of
from schemas.billing import Recomputation
from schemas.invoices import KeptInvoice
from stores.billing import recompute
from stores.postgres import customers, invoices
from stores.postgres.engine import transaction


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
