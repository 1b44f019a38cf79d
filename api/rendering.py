"""Invoices as documents: made on threads of their own, so many at once, since typesetting is work for a core."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from litestar import Response
from litestar.datastructures import State
from msgspec import Struct

from api.deps import ApiDeps
from api.errors import RateLimited
from documents import invoice_csv, invoice_document, invoice_html, invoice_pdf
from documents.html_page import POLICY
from documents.parties import customer_shown, seller_shown
from schemas.documents import InvoiceDocument
from stores.postgres.invoice_basis import PrintedInvoice

PDF, HTML, CSV = "application/pdf", "text/html", "text/csv"
# Documents that wait for their turn: at 100 ms each the last one waits some seconds.
MAX_WAITING = 64


class Renderer:
    """At most `at_once` documents are made at a time, and `MAX_WAITING` wait; any more are refused."""

    def __init__(self, at_once: int, font_folders: tuple[Path, ...]) -> None:
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="documents")
        self._most = at_once + MAX_WAITING
        self._asked = 0
        self._kinds: Mapping[str, _Kind] = {
            PDF: _Kind("pdf", lambda document: invoice_pdf(document, font_folders)),
            HTML: _Kind("html", invoice_html, {"content-security-policy": POLICY}),
            CSV: _Kind("csv", invoice_csv),
        }

    async def document(self, media_type: str, printed: PrintedInvoice) -> Response[Any]:
        """The invoice as PDF, HTML or CSV: the same bytes as long as its state is the same.

        Raises Invalid `amounts_disagree`, and RateLimited when too many wait already.
        """
        if self._asked >= self._most:
            raise RateLimited("this process makes as many documents as it can: ask again in a moment")
        kind = self._kinds[media_type]
        self._asked += 1
        try:
            made = await asyncio.get_running_loop().run_in_executor(self._threads, lambda: kind.render(_shown(printed)))
        finally:
            self._asked -= 1
        name = f"{printed.invoice.number}.{kind.suffix}"
        headers = {
            "content-disposition": f'inline; filename="{name}"',
            "x-content-type-options": "nosniff",
            "vary": "Accept",
            **kind.headers,
        }
        charset = "" if media_type == PDF else "; charset=utf-8"
        return Response(made, media_type=f"{media_type}{charset}", headers=headers)


class _Kind(Struct, frozen=True):
    suffix: str
    render: Callable[[InvoiceDocument], bytes]
    headers: Mapping[str, str] = {}


def renderer_of(state: State, deps: ApiDeps) -> Renderer:
    """The one of this application, made when a document is first asked for."""
    renderer = state.get("renderer")
    if renderer is None:
        api = deps.settings.api
        folders = tuple(Path(folder.strip()) for folder in api.font_folders.split(",") if folder.strip())
        renderer = state["renderer"] = Renderer(api.renders_at_once, folders)
    found: Renderer = renderer
    return found


def _shown(printed: PrintedInvoice) -> InvoiceDocument:
    parties = printed.parties
    return invoice_document(
        printed.invoice,
        seller=seller_shown(parties.seller),
        customer=customer_shown(parties.customer),
        zone=parties.timezone,
        prices=printed.prices,
        plan=parties.plan,
    )
