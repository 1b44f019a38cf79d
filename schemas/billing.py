"""What periods are billed from, what it came to, and what it comes to when it is done again."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from msgspec import Struct

from schemas.closing import ClosableSubscription, FailedPeriod
from schemas.customers import Customer
from schemas.invoices import Invoice
from schemas.meters import Meter
from schemas.plans import Plan
from schemas.prices import PlanPrice

Span = tuple[datetime, datetime]


class BilledMeter(NamedTuple):
    """One meter of one period of a subscription; with `spans`, of those `[start, end)` of it and no others."""

    subscription_id: str
    start: datetime
    meter_id: str
    spans: tuple[Span, ...] = ()


class BilledPart(Struct, frozen=True, kw_only=True):
    """What one price is billed for in a period: a fee for the span `[start, end)`, usage from `start` to `end` over the
    `spans` within, all of it where there are none. `quantity` is what is priced, `times` how often the amount of a fee counts:
    for each unit of its add-on.
    """

    price: PlanPrice
    quantity: Decimal
    times: int = 1
    start: datetime
    end: datetime
    spans: tuple[Span, ...] = ()


class Contracts(Struct, frozen=True, kw_only=True):
    """What PostgreSQL says about the subscriptions of a batch, by id; plans by the id of their version."""

    held: Mapping[str, ClosableSubscription]
    plans: Mapping[str, Plan]
    customers: Mapping[str, Customer]
    meters: Mapping[str, Meter]


class CountedBy(Struct, frozen=True, kw_only=True):
    """What usage of a customer was read by, besides the cut: all its names then, and each meter's generation."""

    references: tuple[str, ...]
    generations: Mapping[str, int]


class Counted(Struct, frozen=True, kw_only=True):
    """Usage of a meter in a period at the cutoff, from the windows and from raw events."""

    value: Decimal | None
    recount: Decimal | None


class Billing(Struct, frozen=True, kw_only=True):
    """Invoices of consecutive periods of one subscription, what their usage was read by, and why it goes no further."""

    held: ClosableSubscription
    invoices: tuple[Invoice, ...]
    by: CountedBy
    failed: FailedPeriod | None


class Amount(Struct, frozen=True, kw_only=True):
    """`amount` is `exact_amount` rounded once."""

    quantity: Decimal
    exact_amount: Decimal
    amount: Decimal


class RecomputedLine(Struct, frozen=True, kw_only=True):
    """One line as it was billed, and rated again from the windows and from the events at the invoice's cut.

    `windows` and `events` are None where the price has no line any more: that is a difference too.
    """

    price_key: str
    meter_id: str | None
    same: bool
    billed: Amount
    windows: Amount | None
    events: Amount | None


class Totals(Struct, frozen=True, kw_only=True):
    billed: Decimal
    windows: Decimal
    events: Decimal


class Recomputation(Struct, frozen=True, kw_only=True):
    """`same`: every line and the total come to what was billed, to the last digit, from either source."""

    invoice_id: str
    number: str
    currency: str
    cut: int
    as_of: datetime
    same: bool
    lines: tuple[RecomputedLine, ...]
    total: Totals
