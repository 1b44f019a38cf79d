"""Documents are made a few at a time, and the same bytes each time."""

import asyncio

import pytest

from api.errors import RateLimited
from api.rendering import CSV, HTML, MAX_WAITING, PDF, Renderer
from schemas.invoice_parties import InvoiceParties, InvoiceParty, InvoiceSeller
from stores.postgres.invoice_basis import PrintedInvoice
from tests.support.invoice_documents import invoice, line

PRINTED = PrintedInvoice(
    invoice=invoice([line()]),
    parties=InvoiceParties(
        seller=InvoiceSeller(name="Seller", tax_id="S1"),
        customer=InvoiceParty(name="Buyer", address=("Street 1",)),
        timezone="UTC",
        plan="Pro, version 1",
    ),
    prices={},
)


@pytest.mark.parametrize(
    ("media_type", "begins"), [(PDF, b"%PDF-"), (HTML, b"<!doctype html>"), (CSV, b"invoice_number")]
)
async def test_a_document_is_the_same_bytes_each_time_and_named_by_the_number(media_type: str, begins: bytes) -> None:
    renderer = Renderer(1, ())
    one, other = [await renderer.document(media_type, PRINTED) for _ in range(2)]
    assert one.content == other.content
    assert one.content.startswith(begins)
    assert one.headers["content-disposition"] == f'inline; filename="INV-7.{media_type.rpartition("/")[2]}"'


async def test_what_waits_is_bounded_and_a_place_is_free_again_after_each_document() -> None:
    renderer = Renderer(1, ())
    asked = [renderer.document(CSV, PRINTED) for _ in range(MAX_WAITING + 3)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers].count(RateLimited) == 2
    assert (await renderer.document(CSV, PRINTED)).content.startswith(b"invoice_number")
