"""An invoice as it is shown: every text ready, so that PDF, HTML and CSV say the same."""

from datetime import datetime
from decimal import Decimal
from typing import Literal

from msgspec import Struct


class Shown(Struct, frozen=True, kw_only=True):
    """One value twice. `plain` is for machines (`1234.50`, RFC 3339), `text` for people (`1,234.50`, `1 Feb 2026`)."""

    plain: str
    text: str


class Party(Struct, frozen=True, kw_only=True):
    """Who sells or who buys. `details` are lines under the name: address, tax number, how to reach them."""

    name: str
    details: tuple[str, ...] = ()


class Seller(Party, frozen=True, kw_only=True):
    """`payment` says line by line how to pay; `footer` stands at the foot of each page (register, managing directors)."""

    payment: tuple[str, ...] = ()
    footer: str = ""


class ChargeRow(Struct, frozen=True, kw_only=True):
    """A row between subtotal and total. `amount` is what it adds: a discount or a credit is below zero."""

    kind: Literal["discount", "credit", "tax"]
    label: str
    amount: Decimal


class InvoiceExtras(Struct, frozen=True, kw_only=True):
    """What an invoice shows besides its lines.

    `charges` come in the order they are applied: discounts, credits, taxes. `included_taxes` are inside the total and
    add nothing to it. `payments` stand between the total and the amount due, below zero.
    """

    charges: tuple[ChargeRow, ...] = ()
    included_taxes: tuple[tuple[str, Decimal], ...] = ()
    payments: tuple[tuple[str, Decimal], ...] = ()
    due_at: datetime | None = None
    notes: tuple[str, ...] = ()


class DocumentStep(Struct, frozen=True, kw_only=True):
    """One step of a rating, in words and figures."""

    label: str  # "Tier 2, per unit", "Packages", ...
    units: str  # which units of the whole quantity: "first 1,000", "over 1,000 to 3,005"
    quantity: str
    unit_amount: str
    amount: str  # exact


class DocumentLine(Struct, frozen=True, kw_only=True):
    """`unit_price` is empty where no single one made the amount: the steps say how it came about.

    `rounding` is what rounding added to the exact amount; empty when that is nothing. `detailed` lines are more than
    quantity times unit price, rounded: the annex shows their steps.
    """

    position: str
    id: str
    kind: str
    tag: str  # shown beside the description of what is neither a fee nor usage: "Adjustment"
    description: str
    price_key: str
    pricing: str  # "graduated tiers", "packages of 1,000"; empty where the price is not at hand
    period: str
    period_start: Shown
    period_end: Shown
    quantity: Shown
    unit_price: Shown
    exact_amount: Shown
    amount: Shown
    steps: tuple[DocumentStep, ...]
    rounding: str
    detailed: bool


class DocumentRow(Struct, frozen=True, kw_only=True):
    """A row under the lines. `informative` rows are contained in another and add nothing."""

    kind: Literal["subtotal", "discount", "credit", "tax", "total", "included_tax", "payment", "amount_due"]
    label: str
    amount: Shown
    informative: bool = False


class InvoiceDocument(Struct, frozen=True, kw_only=True):
    """`rows` are subtotal, charges, total, payments and amount due, in that order. `facts` are pairs of label and text."""

    id: str
    number: str
    state: str
    stamp: str  # what must not be overlooked: "Draft", "Void"; else empty
    currency: str
    zone: str
    issued_at: datetime
    seller: Seller
    customer: Party
    facts: tuple[tuple[str, str], ...]
    basis: str  # which zone the dates are in, and how far usage was counted
    lines: tuple[DocumentLine, ...]
    rows: tuple[DocumentRow, ...]
    amount_due: str  # with the currency's code
    due: str  # the sentence under the amount due
    notes: tuple[str, ...]
