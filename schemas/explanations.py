"""How an invoice came to its amounts: line, steps of the price, windows of usage, and the events in them."""

from datetime import datetime
from decimal import Decimal

from msgspec import Struct

from schemas.event_records import EventPosition
from schemas.prices import RatedStep


class ExplainedStep(Struct, frozen=True, kw_only=True):
    """`sum` is what this step and those before it come to; the last one's is the line's exact amount."""

    text: str
    step: RatedStep
    sum: Decimal


class ExplainedWindow(Struct, frozen=True, kw_only=True):
    """`value` of `[start, end)`; None where an aggregate of nothing has none. `events` is the request that lists them."""

    start: datetime
    end: datetime
    value: Decimal | None
    events: str


class ExplainedUsage(Struct, frozen=True, kw_only=True):
    """The meter's windows as read at the invoice's cut, and its value over the line's whole period.

    `window` is what they were cut by (None: the period is one window). `total` is the aggregate of the period, which is
    the sum of the windows where the meter is `additive`. `same`: it is the quantity that the line bills; None where the
    line bills a difference. `events` is the request that lists the events of all windows.
    """

    meter_id: str
    meter_key: str
    generation: int
    aggregation: str
    additive: bool
    window: str | None
    windows: tuple[ExplainedWindow, ...]
    total: Decimal | None
    same: bool | None
    events: str


class ExplainedLine(Struct, frozen=True, kw_only=True):
    """Steps sum to `exact_amount`, and `exact_amount + rounding = amount`. `usage` is None where no meter was read."""

    line_id: str
    kind: str
    description: str
    text: str
    period_start: datetime
    period_end: datetime
    quantity: Decimal
    steps: tuple[ExplainedStep, ...]
    exact_amount: Decimal
    rounding: Decimal
    amount: Decimal
    usage: ExplainedUsage | None


class InvoiceExplanation(Struct, frozen=True, kw_only=True):
    """The amounts of all lines sum to `subtotal`. Windows are cut in `timezone`."""

    invoice_id: str
    number: str
    currency: str
    timezone: str
    cut: int
    as_of: datetime
    lines: tuple[ExplainedLine, ...]
    subtotal: Decimal
    total: Decimal
    amount_due: Decimal


class LineUsage(Struct, frozen=True, kw_only=True):
    """What a line's meter holds in a period at the cut: `windows` in order, and the aggregate of the whole period."""

    generation: int
    window: str | None
    windows: tuple[tuple[datetime, datetime, Decimal | None], ...]
    total: Decimal | None


class BilledEvent(Struct, frozen=True, kw_only=True):
    """An event that a line counts, and what the line's meter took of it; `dimensions` in the meter's order."""

    id: str
    source: str
    type: str
    customer: str
    time: datetime
    value: Decimal | None
    unique_key: str | None
    dimensions: tuple[str, ...]
    position: EventPosition


class BilledEvents(Struct, frozen=True, kw_only=True):
    """Events of a line, newest first, as known at the invoice's `cut`."""

    items: list[BilledEvent]
    next_cursor: str | None
    line_id: str
    meter_id: str
    generation: int
    cut: int
    as_of: datetime
