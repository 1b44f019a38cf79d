"""What an explanation of an invoice shows, and how much of it at once."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from domain.aggregates import is_additive
from domain.errors import Invalid, NotFound
from domain.windows import MAX_WINDOWS, cut_windows
from schemas.billing import Span
from schemas.invoices import InvoiceLine, KeptInvoice
from schemas.meters import Aggregation
from schemas.price_terms import QuantityTerms
from schemas.prices import MatrixPrice, Price

# An answer of at most half a megabyte: a month of days on sixty lines.
READABLE_WINDOWS = 2_000
_READABLE_OF_LINE = 100
_LENGTHS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "month": timedelta(days=30)}


def line_of(invoice: KeptInvoice, line_id: str) -> InvoiceLine:
    """Raises NotFound `line_not_found`."""
    for line in invoice.lines:
        if line.id == line_id:
            return line
    raise NotFound("line_not_found", f"invoice {invoice.number} has no line {line_id!r}; GET the invoice to see them")


def counted_lines(invoice: KeptInvoice, line_id: str | None = None) -> list[InvoiceLine]:
    """The lines whose quantity windows lead to: all of them, or the one that is named. Raises NotFound `line_not_found`."""
    wanted = invoice.lines if line_id is None else (line_of(invoice, line_id),)
    return [line for line in wanted if counts_usage(line)]


def counts_usage(line: InvoiceLine) -> bool:
    """Whether windows lead to its quantity. What fills another line up bills what is missing: no event is in it."""
    return line.meter_id is not None and line.kind != "true_up"


def readable_window(start: datetime, end: datetime, lines: int) -> str | None:
    """The finest of hour, day and month that leaves few enough windows to read, with `lines` lines; None: one window."""
    most = min(_READABLE_OF_LINE, READABLE_WINDOWS // max(lines, 1))
    return next((name for name, length in _LENGTHS.items() if end - start <= length * most), None)


def counted_spans(line: InvoiceLine) -> tuple[Span, ...]:
    """What of its period the usage of a line is counted in, in order: all of it, but for pauses and trials."""
    return line.spans or ((line.period_start, line.period_end),)


def check_windows(spans: Iterable[Span], window: str, zone: str) -> None:
    """Raises Invalid `too_many_windows` where all lines together have more than one question may have, and those of
    `cut_windows`.
    """
    if sum(len(cut_windows(start, end, window, zone)) for start, end in spans) > MAX_WINDOWS:
        message = f"the lines have more than {MAX_WINDOWS} windows: name one of them with `line`, or a longer `window`"
        raise Invalid("too_many_windows", message)


def bills_the_aggregate(line: InvoiceLine, aggregation: Aggregation, price: Price | None) -> bool:
    """Whether the quantity of the line (of an adjustment, the one that it corrects to) is the meter's value over its
    period: not where values of buckets or dimensions were priced apart, whose sum is another number unless the meter adds
    up.
    """
    if not counts_usage(line):
        return False
    apart = isinstance(price, MatrixPrice) or (isinstance(price, QuantityTerms) and price.bucket is not None)
    return is_additive(aggregation) or not apart


def parts_within(line: InvoiceLine, spans: Sequence[Span], start: datetime | None, end: datetime | None) -> list[Span]:
    """What of `[start, end)` the line counts. Raises Invalid `line_not_metered`, `range_empty`."""
    if line.meter_id is None:
        raise Invalid("line_not_metered", f"line {line.id} bills a fee: no events lead to it")
    clipped = [(max(start or first, first), min(end or last, last)) for first, last in spans]
    within = [(first, last) for first, last in clipped if first < last]
    if not within:
        period = f"{line.period_start.isoformat()} to {line.period_end.isoformat()}"
        raise Invalid("range_empty", f"the line counts nothing in the range; its period is {period}")
    return within
