"""From an invoice as it is kept to one as it is shown. Refuses to show sums that do not add up."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from documents import texts
from documents.lines import document_line
from domain.errors import Invalid
from domain.money import total
from schemas.documents import DocumentRow, InvoiceDocument, InvoiceExtras, Party, Seller, Shown
from schemas.invoices import KeptInvoice
from schemas.prices import PlanPrice

_STAMPS = {"draft": "Draft", "void": "Void", "uncollectible": "Uncollectible"}
_PAYABLE = ("open", "uncollectible")
_NO_EXTRAS = InvoiceExtras()


def invoice_document(
    invoice: KeptInvoice,
    *,
    seller: Seller,
    customer: Party,
    zone: str,
    prices: Mapping[str, PlanPrice] | None = None,
    plan: str = "",
    extras: InvoiceExtras = _NO_EXTRAS,
) -> InvoiceDocument:
    """The invoice with every text ready. A function of its arguments only.

    `zone` is the IANA zone that periods and dates are written in. `prices` maps price ids to the version the invoice
    was made with; a line whose price is missing there is shown without the name of its pricing model.
    Raises Invalid `amounts_disagree` where lines, steps, charges and totals do not sum, `unknown_currency`,
    `unknown_timezone`.
    """
    known = prices or {}
    document = InvoiceDocument(
        id=invoice.id,
        number=texts.clean(invoice.number),
        state=invoice.state,
        stamp=_STAMPS.get(invoice.state, ""),
        currency=invoice.currency,
        zone=zone,
        issued_at=invoice.issued_at,
        seller=_seller(seller, payable=invoice.state in _PAYABLE and invoice.amount_due > 0),
        customer=_party(customer),
        facts=_facts(invoice, zone, texts.clean(plan), extras.due_at),
        basis=f"Dates are those of {zone}. Usage is complete up to {texts.moment(invoice.as_of, zone)}.",
        lines=tuple(
            document_line(number, line, known.get(line.price_id), invoice.currency, zone)
            for number, line in enumerate(invoice.lines, start=1)
        ),
        rows=_rows(invoice, extras),
        amount_due=texts.with_code(invoice.amount_due, invoice.currency),
        due=_due(invoice, zone, extras.due_at),
        notes=tuple(texts.clean(note) for note in extras.notes),
    )
    _check_sums(invoice, extras)
    return document


def _check_sums(invoice: KeptInvoice, extras: InvoiceExtras) -> None:
    charged = [row.amount for row in extras.charges]
    paid = [amount for _, amount in extras.payments]
    sums = {
        "subtotal": (total([line.amount for line in invoice.lines]), invoice.subtotal),
        "total": (total([invoice.subtotal, *charged]), invoice.total),
        "amount due": (total([invoice.total, *paid]), invoice.amount_due),
    }
    for name, (summed, kept) in sums.items():
        if summed != kept:
            raise Invalid("amounts_disagree", f"the {name} of invoice {invoice.id} is not the sum of what leads to it")


def _party(party: Party) -> Party:
    return Party(name=texts.clean(party.name), details=tuple(texts.clean(line) for line in party.details))


def _seller(seller: Seller, *, payable: bool) -> Seller:
    """How to pay is told only where something is to be paid."""
    return Seller(
        name=texts.clean(seller.name),
        details=tuple(texts.clean(line) for line in seller.details),
        payment=tuple(texts.clean(line) for line in seller.payment) if payable else (),
        footer=texts.clean(seller.footer),
    )


def _facts(invoice: KeptInvoice, zone: str, plan: str, due_at: datetime | None) -> tuple[tuple[str, str], ...]:
    facts = [
        ("Invoice number", texts.clean(invoice.number)),
        ("Issued", texts.day(invoice.issued_at, zone)),
        ("Due", "" if due_at is None else texts.day(due_at, zone)),
        ("Period", texts.period(invoice.period_start, invoice.period_end, zone)),
        ("Plan", plan),
    ]
    return tuple((label, text) for label, text in facts if text)


def _due(invoice: KeptInvoice, zone: str, due_at: datetime | None) -> str:
    if invoice.state == "draft":
        return "This is a draft. It is not due yet and may still change."
    if invoice.state == "void":
        return "This invoice is void. Nothing is to be paid."
    if invoice.state == "paid" and invoice.total > 0:
        return "Paid, with thanks."
    if invoice.amount_due < 0:
        return "This amount is in your favour. Nothing is to be paid."
    if not invoice.amount_due:
        return "Nothing is to be paid."
    return "Due on receipt" if due_at is None else f"Due by {texts.day(due_at, zone)}"


def _rows(invoice: KeptInvoice, extras: InvoiceExtras) -> tuple[DocumentRow, ...]:
    """What adds up, from the lines' sum to the amount due."""

    def shown(amount: Decimal) -> Shown:
        return texts.money(amount, invoice.currency)

    due = Shown(plain=shown(invoice.amount_due).plain, text=texts.with_code(invoice.amount_due, invoice.currency))
    return (
        DocumentRow(kind="subtotal", label="Subtotal", amount=shown(invoice.subtotal)),
        *(
            DocumentRow(kind=charge.kind, label=texts.clean(charge.label), amount=shown(charge.amount))
            for charge in extras.charges
        ),
        DocumentRow(kind="total", label="Total", amount=shown(invoice.total)),
        *(
            DocumentRow(
                kind="included_tax", label=f"including {texts.clean(label)}", amount=shown(amount), informative=True
            )
            for label, amount in extras.included_taxes
        ),
        *(
            DocumentRow(kind="payment", label=texts.clean(label), amount=shown(amount))
            for label, amount in extras.payments
        ),
        DocumentRow(kind="amount_due", label="Amount due", amount=due),
    )
