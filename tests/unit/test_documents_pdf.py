"""What stands in the PDF, read back from its bytes."""

import io
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace
from pypdf import PdfReader

from docs.invoices.sample import sample_document
from documents import invoice_pdf
from schemas.documents import InvoiceDocument, Party
from schemas.prices import GraduatedPrice, PerUnitPrice, Tier
from tests.support.invoice_documents import HOSTILE, document, invoice, line, lump

ROOT = Path(__file__).parents[2]
D = Decimal


def pages_of(pdf: bytes) -> list[str]:
    return [" ".join(page.extract_text().split()) for page in PdfReader(io.BytesIO(pdf)).pages]


def pages(shown: InvoiceDocument) -> list[str]:
    return pages_of(invoice_pdf(shown))


def test_every_text_of_the_invoice_is_in_the_pdf() -> None:
    shown = sample_document()
    [first, second] = pages(shown)
    for text in (shown.number, shown.seller.name, shown.customer.name, *shown.customer.details, *shown.notes):
        assert " ".join(text.split()) in first
    for row in shown.rows:
        assert f"{row.label} {row.amount.text}".replace("\N{NO-BREAK SPACE}", " ") in first
    for one in shown.lines:
        assert one.description in first
        assert one.amount.text in first
        assert (f"{one.position}. {one.description}" in second) == one.detailed
    assert "first 100,000 100,000 0.00 0.00" in second
    assert "Rounding 0.00475" in second


def test_markup_in_names_is_shown_as_it_was_written() -> None:
    [page] = pages(document([lump("1.00", description=HOSTILE)], customer=Party(name=HOSTILE, details=(HOSTILE,))))
    assert page.count(" ".join(HOSTILE.split())) == 3
    assert "42" not in page


def test_the_same_document_gives_the_same_bytes_in_another_process() -> None:
    program = (
        "import sys; from docs.invoices.sample import sample_document; from documents import invoice_pdf;"
        "sys.stdout.buffer.write(invoice_pdf(sample_document()))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)
    assert done.stdout == invoice_pdf(sample_document())


def test_the_file_is_dated_by_the_invoice_whatever_the_clock_says() -> None:
    issued = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    pdf = invoice_pdf(document(invoice([lump("1.00")], issued_at=issued)))
    information = PdfReader(io.BytesIO(pdf)).metadata
    assert information is not None
    assert information.creation_date == issued
    assert (information.title, information.author) == ("Invoice INV-7", "Seller Ltd")


def test_it_is_made_for_archives_and_for_readers_that_speak() -> None:
    metadata = PdfReader(io.BytesIO(invoice_pdf(sample_document()))).xmp_metadata
    assert metadata is not None
    assert (metadata.pdfaid_part, metadata.pdfaid_conformance) == ("2", "A")


def test_two_hundred_lines_break_into_pages_that_repeat_the_head_and_lose_none() -> None:
    price = PerUnitPrice(unit_amount=D("0.0135"))
    lines = [line(price, "1234.5", "KWD", id=f"lin_{n}", description=f"Service {n:03}") for n in range(200)]
    made = pages(document(invoice(lines, currency="KWD")))
    assert len(made) > 5
    for number, page in enumerate(made, start=1):
        assert f"Page {number} of {len(made)}" in page
        assert "No. Description Quantity Unit price Amount (KWD)" in page
    whole = " ".join(made)
    assert [whole.count(f"Service {n:03}") for n in range(200)] == [1] * 200
    assert "Amount due KWD 3,333.200" in made[-1]


def test_the_steps_of_one_line_break_over_pages_too() -> None:
    tiers = (*(Tier(up_to=D(n), unit_amount=D("0.01")) for n in range(1, 151)), Tier(unit_amount=D("0.02")))
    made = pages(document([line(GraduatedPrice(tiers=tiers), "160")]))
    assert len(made) > 3
    for page in made[1:]:
        assert "Step Units Quantity Unit price Exact amount" in page
    assert "over 150 to 160 10 0.02 0.20" in made[-1]


@pytest.mark.parametrize(
    ("currency", "amount", "text"), [("JPY", "120000", "JPY 120,000"), ("KWD", "1.005", "KWD 1.005")]
)
def test_an_amount_has_the_digits_of_its_currency(currency: str, amount: str, text: str) -> None:
    [page] = pages(document(invoice([lump(amount, currency=currency)], currency=currency)))
    assert text in page


def test_a_draft_says_so_on_its_page() -> None:
    [page] = pages(document(invoice([lump("1.00")], state="draft")))
    assert "DRAFT" in page
    assert "This is a draft" in page


def test_letters_of_many_scripts_are_there_without_fonts_of_the_machine() -> None:
    names = ("Łódź Ünïcödé", "Ελληνικά", "Кириллица", "עברית", "नमस्ते")
    pdf = invoice_pdf(document([lump("1.00")], customer=Party(name="Buyer", details=names)))
    [page] = pages_of(pdf)
    assert [name for name in names[:3] if name not in page] == []
    assert "shown as boxes" not in page


def test_a_sign_that_no_font_has_is_a_box_and_the_page_says_so() -> None:
    [page] = pages(document([lump("1.00")], customer=Party(name="東京メータ株式会社")))
    assert "Signs that this document has no letters for are shown as boxes." in page
    assert "Amount due USD 1.00" in page


def test_a_word_that_is_longer_than_its_column_breaks_and_loses_nothing() -> None:
    word = "W" * 255
    text = PdfReader(io.BytesIO(invoice_pdf(document([lump("1.00", description=word)])))).pages[0].extract_text()
    rows = [row.count("W") for row in text.splitlines()]
    assert max(rows) < 30, "more of them would run over the numbers"
    assert sum(rows) == len(word)


def test_an_invoice_without_lines_is_a_page() -> None:
    [page] = pages(document(replace(invoice([]), state="paid")))
    assert "Nothing is to be paid." in page


def test_the_sample_in_the_documents_is_what_is_made_today() -> None:
    kept = (ROOT / "docs/invoices/sample.pdf").read_bytes()
    assert pages_of(kept) == pages(sample_document()), "make it anew: python -m docs.invoices.sample"


def test_a_time_of_issue_before_the_clock_of_computers_is_no_matter() -> None:
    issued = datetime(1970, 1, 1, tzinfo=UTC) - timedelta(days=1)
    assert pages(document(invoice([lump("1.00")], issued_at=issued)))
