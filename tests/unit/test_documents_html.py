from decimal import Decimal
from html.parser import HTMLParser

from docs.invoices.sample import sample_document
from documents import invoice_html
from documents.markup import Html, element
from schemas.documents import ChargeRow, InvoiceDocument, InvoiceExtras, Party, Seller
from tests.support.invoice_documents import HOSTILE, document, invoice, lump


class Page(HTMLParser):
    """Tags, attributes and texts as a browser finds them."""

    def __init__(self, shown: InvoiceDocument) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(invoice_html(shown).decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def test_every_text_of_the_invoice_is_in_the_page() -> None:
    shown = sample_document()
    page = Page(shown)
    texts = [shown.number, shown.amount_due, shown.due, shown.basis, *shown.notes, *shown.customer.details]
    texts += [text for one in shown.lines for text in (one.description, one.quantity.text, one.amount.text)]
    texts += [text for row in shown.rows for text in (row.label, row.amount.text)]
    texts += [step.amount for one in shown.lines if one.detailed for step in one.steps]
    assert [text for text in texts if text not in page.text] == []
    assert page.open == []


def test_markup_in_any_text_is_shown_and_never_becomes_markup() -> None:
    hostile = Party(name=HOSTILE, details=(HOSTILE,))
    seller = Seller(name=HOSTILE, details=(HOSTILE,), payment=(HOSTILE,), footer=HOSTILE)
    extras = InvoiceExtras(
        charges=(ChargeRow(kind="discount", label=HOSTILE, amount=Decimal(-1)),),
        included_taxes=((HOSTILE, Decimal(1)),),
        notes=(HOSTILE,),
    )
    kept = invoice(
        [lump("3.00", description=HOSTILE, price_key=HOSTILE, kind="adjustment")],
        number=HOSTILE,
        total=Decimal(2),
        amount_due=Decimal(2),
    )
    page = Page(document(kept, seller=seller, customer=hostile, plan=HOSTILE, extras=extras))
    assert page.text.count(" ".join(HOSTILE.split())) == 15
    assert set(page.tags).isdisjoint({"script", "lab", "img", "iframe", "b"})


def test_the_page_asks_nobody_for_anything() -> None:
    page = Page(sample_document())
    assert set(page.tags).isdisjoint({"link", "script", "img", "iframe", "object", "form", "base"})
    assert [value for name, value in page.attributes if name == "src"] == []
    assert all((value or "").startswith("#") for name, value in page.attributes if name == "href")
    style = invoice_html(sample_document()).decode().partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_a_link_to_details_leads_to_them() -> None:
    page = Page(sample_document())
    targets = {value for name, value in page.attributes if name == "id"}
    links = [str(value)[1:] for name, value in page.attributes if name == "href"]
    assert links
    assert set(links) == targets


def test_a_stamp_is_on_what_is_no_invoice_yet_or_no_longer() -> None:
    assert "Draft" in Page(document(invoice([lump("1.00")], state="draft"))).text
    assert "Void" in Page(document(invoice([lump("1.00")], state="void"))).text


def test_the_same_document_gives_the_same_page() -> None:
    assert invoice_html(sample_document()) == invoice_html(sample_document())


def test_what_is_not_made_by_element_is_text() -> None:
    assert element("p", "<b>", Html("<i></i>"), title='"&') == '<p title="&quot;&amp;">&lt;b&gt;<i></i></p>'
