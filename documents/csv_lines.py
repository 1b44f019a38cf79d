"""The rows of an invoice as CSV (RFC 4180): UTF-8 without a mark, CRLF, a head, plain numbers, RFC 3339 instants."""

import csv
import io

from schemas.documents import DocumentLine, DocumentRow, InvoiceDocument

COLUMNS = (
    "invoice_number",
    "invoice_state",
    "customer",
    "currency",
    "line",
    "line_id",
    "kind",
    "description",
    "price_key",
    "period_start",
    "period_end",
    "quantity",
    "unit_price",
    "exact_amount",
    "amount",
)
# What makes a spreadsheet take a cell for a formula, also in the wide forms that some of them fold.
_FORMULA = (
    *"=+-@",
    "\N{FULLWIDTH EQUALS SIGN}",
    "\N{FULLWIDTH PLUS SIGN}",
    "\N{FULLWIDTH HYPHEN-MINUS}",
    "\N{FULLWIDTH COMMERCIAL AT}",
)
_CHARGES = ("discount", "credit", "tax")


def invoice_csv(document: InvoiceDocument) -> bytes:
    """A row for each line, then one for each discount, credit and tax: the amounts sum to the invoice's total.

    `quantity`, `unit_price`, `exact_amount` and `amount` are decimals with a point and no grouping; `unit_price` is empty
    where no single one made the amount. Text that a spreadsheet would run as a formula is preceded by an apostrophe.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    head = [inert(document.number), document.state, inert(document.customer.name), document.currency]
    writer.writerows([*head, *_line(line)] for line in document.lines)
    writer.writerows([*head, *_charge(row)] for row in document.rows if row.kind in _CHARGES)
    return out.getvalue().encode()


def inert(text: str) -> str:
    """Text that no spreadsheet calculates."""
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def _line(line: DocumentLine) -> list[str]:
    return [
        line.position,
        inert(line.id),
        line.kind,
        inert(line.description),
        inert(line.price_key),
        line.period_start.plain,
        line.period_end.plain,
        line.quantity.plain,
        line.unit_price.plain,
        line.exact_amount.plain,
        line.amount.plain,
    ]


def _charge(row: DocumentRow) -> list[str]:
    return ["", "", row.kind, inert(row.label), "", "", "", "", "", row.amount.plain, row.amount.plain]
