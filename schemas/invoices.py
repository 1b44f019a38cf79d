"""Invoices and their lines. Money is in major units of `currency`, already rounded to its minor unit."""

from datetime import datetime
from decimal import Decimal
from typing import Literal

from msgspec import Struct

from schemas.prices import RatedStep

InvoiceState = Literal["draft", "open", "paid", "void", "uncollectible"]


class AdjustedUsage(Struct, frozen=True, kw_only=True):
    """What an adjustment line corrects: a period that was billed for `quantity_before` and holds `quantity_after`.

    `invoice_id` is the invoice that billed the period first, `cut` where what is billed so far was read, `generation` that
    of the meter, and `sequence` counts the adjustments of the period, from 1. `whole` is the billing period that the line's
    lies in: levels are weighed over it.
    """

    invoice_id: str
    sequence: int
    cut: int
    generation: int
    quantity_before: Decimal
    quantity_after: Decimal
    whole: tuple[datetime, datetime] | None = None


class InvoiceLine(Struct, frozen=True, kw_only=True):
    """One price of the subscription over one period. `amount` is `exact_amount` rounded once.

    `true_up` is what fills a line of the same price up to its commitment or minimum. `adjustment` is what late usage adds
    to a period that was billed before (or takes off it): `quantity` is the difference, and true-ups are among its steps.
    Where usage is not counted from `period_start` to `period_end` throughout, `spans` are the parts in which it is.
    """

    id: str
    kind: Literal["fee", "usage", "true_up", "adjustment"]
    price_id: str
    price_key: str
    description: str
    meter_id: str | None
    quantity: Decimal
    period_start: datetime
    period_end: datetime
    exact_amount: Decimal
    amount: Decimal
    steps: tuple[RatedStep, ...] = ()
    adjusts: AdjustedUsage | None = None
    spans: tuple[tuple[datetime, datetime], ...] = ()


class Invoice(Struct, frozen=True, kw_only=True):
    """`total` is the sum of the lines' rounded amounts; `cut` is the cutoff its usage was read at."""

    id: str
    customer_id: str
    subscription_id: str
    currency: str
    state: InvoiceState
    period_start: datetime
    period_end: datetime
    cut: int
    lines: tuple[InvoiceLine, ...]
    subtotal: Decimal
    total: Decimal
    amount_due: Decimal


class PreviewRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of them: a subscription by its id, or the customer who has only one that runs."""

    subscription: str | None = None
    customer: str | None = None


class UpcomingInvoice(Struct, frozen=True, kw_only=True):
    """What the running period comes to so far. Fees are those of the whole period; usage is that up to `as_of`, at `cut`.

    Ids of lines are of this answer only.
    """

    customer_id: str
    subscription_id: str
    currency: str
    period_start: datetime
    period_end: datetime
    cut: int
    as_of: datetime
    lines: tuple[InvoiceLine, ...]
    subtotal: Decimal
    total: Decimal
    amount_due: Decimal


class KeptInvoice(Invoice, frozen=True, kw_only=True):
    """An invoice as it is kept. `number` has no gap per tenant and environment; usage is complete up to `as_of`."""

    number: str
    as_of: datetime
    issued_at: datetime
