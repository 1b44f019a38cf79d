"""How an invoice came to its amounts: line, steps of the price, windows of usage, and where the events are listed."""

from datetime import datetime
from decimal import Decimal

from msgspec import Struct

from schemas.prices import RatedStep


class ExplainedStep(Struct, frozen=True, kw_only=True):
    """`sum` is what this step and those before it come to; the last one's is the line's exact amount."""

    text: str
    step: RatedStep
    sum: Decimal


class ExplainedWindow(Struct, frozen=True, kw_only=True):
    """`value` of `[start, end)`; None where an aggregate of nothing has none. `events` are requests that list the events."""

    start: datetime
    end: datetime
    value: Decimal | None
    events: tuple[str, ...]


class ExplainedUsage(Struct, frozen=True, kw_only=True):
    """The meter's windows as read at the invoice's cut, and its value over the whole range.

    `total` is the aggregate of the range: the sum of the windows for counts and sums only. `same`: it is the quantity
    that the line bills.
    """

    meter_id: str
    aggregation: str
    windows: tuple[ExplainedWindow, ...]
    total: Decimal | None
    same: bool


class ExplainedLine(Struct, frozen=True, kw_only=True):
    """Steps sum to `exact_amount`, and `exact_amount + rounding = amount`. `usage` is None where no meter was read."""

    line_id: str
    kind: str
    description: str
    text: str
    quantity: Decimal
    steps: tuple[ExplainedStep, ...]
    exact_amount: Decimal
    rounding: Decimal
    amount: Decimal
    usage: ExplainedUsage | None


class InvoiceExplanation(Struct, frozen=True, kw_only=True):
    """The amounts of `lines` sum to `subtotal`."""

    invoice_id: str
    number: str
    currency: str
    cut: int
    as_of: datetime
    lines: tuple[ExplainedLine, ...]
    subtotal: Decimal
    total: Decimal
    amount_due: Decimal
