"""An invoice as one HTML page that loads nothing, runs nothing, and prints as it looks."""

from functools import cache
from importlib.resources import files

from documents.markup import Html, element, joined
from schemas.documents import DocumentLine, DocumentRow, DocumentStep, InvoiceDocument, Party

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STRONG = ("total", "amount_due")


def invoice_html(document: InvoiceDocument) -> bytes:
    """UTF-8. Every text of the document is escaped; the page carries a policy that forbids scripts and requests."""
    title = f"Invoice {document.number}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="robots", content="noindex"),
        element("title", f"{title} \N{MIDDLE DOT} {document.seller.name}"),
        element("style", Html(_style())),
    )
    body = element("body", element("main", *_main(document)))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n".encode()


@cache
def _style() -> str:
    return (files("documents") / "templates" / "invoice.css").read_text(encoding="utf-8")


def _main(document: InvoiceDocument) -> list[Html]:
    return [
        element("p", document.stamp, class_="stamp") if document.stamp else Html(),
        element("header", element("p", document.seller.name, class_="seller"), element("h1", "Invoice")),
        element(
            "section",
            _party("From", document.seller),
            _party("Billed to", document.customer),
            _facts(document),
            class_="parties",
        ),
        _due(document),
        _lines(document),
        element("p", document.basis, class_="muted"),
        element("table", element("tbody", *map(_row, document.rows)), class_="totals"),
        _paragraphs("Payment", document.seller.payment),
        _paragraphs("Notes", document.notes),
        _annex([line for line in document.lines if line.detailed]),
        element("footer", document.seller.footer) if document.seller.footer else Html(),
    ]


def _party(title: str, party: Party) -> Html:
    details = [element("p", line, dir="auto") for line in party.details]
    return element("div", element("h2", title), element("p", element("strong", party.name), dir="auto"), *details)


def _facts(document: InvoiceDocument) -> Html:
    return element("dl", *(joined((element("dt", label), element("dd", value))) for label, value in document.facts))


def _due(document: InvoiceDocument) -> Html:
    what = element("div", element("strong", "Amount due"), element("p", document.due, class_="muted"))
    return element("section", what, element("p", document.amount_due, class_="figure"), class_="due")


def _heads(*names: str) -> Html:
    return element("tr", *(element("th", name, scope="col") for name in names))


def _lines(document: InvoiceDocument) -> Html:
    heads = _heads("No.", "Description", "Quantity", "Unit price", f"Amount ({document.currency})")
    return element("table", element("thead", heads), element("tbody", *map(_line, document.lines)), class_="lines")


def _line(line: DocumentLine) -> Html:
    described = [element("bdi", line.description)]
    if line.tag:
        described += [Html(" "), element("span", line.tag, class_="tag")]
    price = [Html(element("span", line.unit_price.text))] if line.unit_price.text else []
    if line.detailed:
        price.append(element("a", "see details", href=f"#line-{line.position}"))
    return element(
        "tr",
        element("td", line.position, class_="muted"),
        element("td", *described, element("p", line.period, class_="muted")),
        element("td", line.quantity.text),
        element("td", *price),
        element("td", line.amount.text),
    )


def _row(row: DocumentRow) -> Html:
    look = "strong" if row.kind in _STRONG else "muted" if row.informative else ""
    return element("tr", element("th", row.label, scope="row"), element("td", row.amount.text), class_=look)


def _paragraphs(title: str, lines: tuple[str, ...]) -> Html:
    if not lines:
        return Html()
    return element("section", element("h2", title), *(element("p", line, dir="auto") for line in lines))


def _annex(lines: list[DocumentLine]) -> Html:
    if not lines:
        return Html()
    told = "Every step adds to the line's exact amount, which is rounded once, half away from zero."
    return element(
        "section",
        element("h2", "How the amounts came about"),
        element("p", told, class_="muted"),
        *map(_details, lines),
        class_="annex",
    )


def _details(line: DocumentLine) -> Html:
    about = " \N{MIDDLE DOT} ".join(part for part in (line.period, line.pricing) if part)
    caption = element("caption", element("bdi", f"{line.position}. {line.description}"), element("p", about))
    heads = _heads("Step", "Units", "Quantity", "Unit price", "Exact amount")
    rows = [_step(step) for step in line.steps]
    if line.rounding:
        rows.append(_sum("Rounding", line.rounding))
    rows.append(_sum(f"Amount of line {line.position}", line.amount.text, class_="strong"))
    return element(
        "table",
        caption,
        element("thead", heads),
        element("tbody", *rows),
        class_="steps",
        id=f"line-{line.position}",
    )


def _step(step: DocumentStep) -> Html:
    cells = (step.label, step.units, step.quantity, step.unit_amount, step.amount)
    return element("tr", *(element("td", cell) for cell in cells))


def _sum(label: str, amount: str, class_: str = "") -> Html:
    return element("tr", element("th", label, scope="row", colspan="4"), element("td", amount), class_=class_)
