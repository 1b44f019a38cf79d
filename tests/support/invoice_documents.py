"""Invoices to show, as small as a test needs them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from documents import invoice_document
from domain.money import total
from domain.pricing import rate
from schemas.documents import InvoiceDocument, InvoiceExtras, Party, Seller
from schemas.invoices import InvoiceLine, KeptInvoice
from schemas.prices import FlatPrice, Price

STARTS = datetime(2026, 3, 1, tzinfo=UTC)
ENDS = datetime(2026, 4, 1, tzinfo=UTC)
HOSTILE = '<script>alert("1")</script> #eval("6*7") $x^2$ *bold* _it_ @ref \\ // &amp; `raw` <lab>'


def line(price: Price | None = None, quantity: str = "1", currency: str = "USD", **changes: Any) -> InvoiceLine:
    rated = rate(price or FlatPrice(amount=Decimal(10)), Decimal(quantity), currency)
    fields: dict[str, Any] = {
        "id": "lin_1",
        "kind": "usage",
        "price_id": "pri_1",
        "price_key": "calls",
        "description": "Calls",
        "meter_id": "met_1",
        "quantity": Decimal(quantity),
        "period_start": STARTS,
        "period_end": ENDS,
        "exact_amount": rated.exact_amount,
        "amount": rated.amount,
        "steps": rated.steps,
    }
    return InvoiceLine(**(fields | changes))


def lump(amount: str, **changes: Any) -> InvoiceLine:
    """A line of an amount, without steps."""
    return line(exact_amount=Decimal(amount), amount=Decimal(amount), steps=(), **changes)


def invoice(lines: Sequence[InvoiceLine], **changes: Any) -> KeptInvoice:
    subtotal = total([one.amount for one in lines])
    fields: dict[str, Any] = {
        "id": "inv_1",
        "number": "INV-7",
        "customer_id": "cus_1",
        "subscription_id": "sub_1",
        "currency": "USD",
        "state": "open",
        "period_start": STARTS,
        "period_end": ENDS,
        "cut": 12,
        "lines": tuple(lines),
        "subtotal": subtotal,
        "total": subtotal,
        "amount_due": subtotal,
        "as_of": datetime(2026, 4, 1, 1, tzinfo=UTC),
        "issued_at": datetime(2026, 4, 1, 2, tzinfo=UTC),
    }
    return KeptInvoice(**(fields | changes))


def document(lines: Sequence[InvoiceLine] | KeptInvoice, **changes: Any) -> InvoiceDocument:
    fields: dict[str, Any] = {
        "seller": Seller(name="Seller Ltd", payment=("Pay to account 5",)),
        "customer": Party(name="Buyer"),
        "zone": "UTC",
        "extras": InvoiceExtras(),
    }
    kept = lines if isinstance(lines, KeptInvoice) else invoice(lines)
    return invoice_document(kept, **(fields | changes))
