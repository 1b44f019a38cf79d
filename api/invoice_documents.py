"""`/v1/invoices/{invoice}/pdf`, `/html` and `/csv`: an invoice as it is handed on."""

from typing import Any

from litestar import Controller, Request, Response, get

from api.auth import Principal, require
from api.deps import ApiDeps
from api.rendering import CSV, HTML, PDF, renderer_of
from stores.postgres.engine import transaction
from stores.postgres.invoice_basis import printed_invoice

_GUARDS = (require("invoices:read"),)


class InvoiceDocumentsController(Controller):
    path = "/v1/invoices"
    tags = ("invoices",)

    @get("/{invoice:str}/pdf", guards=_GUARDS, media_type=PDF)
    async def pdf(
        self, request: Request[Any, Any, Any], invoice: str, principal: Principal, deps: ApiDeps
    ) -> Response[bytes]:
        """For archives (PDF/A) and for readers that speak (PDF/UA). The same bytes each time."""
        return await document_of(request, deps, principal, invoice, PDF)

    @get("/{invoice:str}/html", guards=_GUARDS, media_type=HTML)
    async def html(
        self, request: Request[Any, Any, Any], invoice: str, principal: Principal, deps: ApiDeps
    ) -> Response[bytes]:
        """One page that loads nothing, runs nothing, and prints as it looks."""
        return await document_of(request, deps, principal, invoice, HTML)

    @get("/{invoice:str}/csv", guards=_GUARDS, media_type=CSV)
    async def csv(
        self, request: Request[Any, Any, Any], invoice: str, principal: Principal, deps: ApiDeps
    ) -> Response[bytes]:
        """A row for each line, discount, credit and tax; `amount` sums to the total."""
        return await document_of(request, deps, principal, invoice, CSV)


async def document_of(
    request: Request[Any, Any, Any], deps: ApiDeps, principal: Principal, reference: str, media_type: str
) -> Response[Any]:
    """The document of an invoice, by id or number."""
    async with transaction(deps.engine) as conn:
        printed = await printed_invoice(conn, principal.scope, reference)
    return await renderer_of(request.app.state, deps).document(media_type, printed)
