"""A quote: the lines that usage would make at a price, before anything is sold or stored."""

from collections.abc import Iterator
from decimal import Decimal

from domain.errors import Invalid, invalid_field
from domain.money import minor_units, total
from domain.pricing.rate import rate_lines
from domain.pricing.validate import validate_price
from domain.quantities import parse_quantity
from schemas.priced_usage import PricedUsage
from schemas.quotes import Quote, QuoteRequest

MAX_USAGE_ROWS = 10_000


def quote(asked: QuoteRequest) -> Quote:
    """A function of its argument only.

    Raises Invalid: `unknown_currency`, `quantity_or_usage` (not exactly one of them), `usage_too_long`,
    `usage_negative`, `time_without_zone`, the codes of `parse_quantity` and of `validate_price`, `usage_unfit`, `unknown_timezone`.
    """
    minor_units(asked.currency)
    validate_price(asked.price, "/price")
    usage = _usage(asked)
    _check_usage(usage, "/quantity" if asked.usage is None else "/usage")
    if asked.before is not None:
        _check_usage(asked.before, "/before")
    lines = rate_lines(asked.price, usage, asked.currency, before=asked.before, last=asked.last)
    return Quote(currency=asked.currency, amount=total([line.amount for line in lines]), lines=lines)


def _usage(asked: QuoteRequest) -> PricedUsage:
    if (asked.quantity is None) == (asked.usage is None):
        raise invalid_field("/quantity", "quantity_or_usage", "exactly one of quantity and usage is sent")
    if asked.usage is not None:
        return asked.usage
    return PricedUsage(quantity=asked.quantity or Decimal(0))


def _check_usage(usage: PricedUsage, pointer: str) -> None:
    rows = sum(len(part) for part in (usage.event_amounts, usage.values, usage.buckets, usage.changes) if part)
    if rows > MAX_USAGE_ROWS:
        raise invalid_field(pointer, "usage_too_long", f"a quote takes {MAX_USAGE_ROWS:,} rows of usage at most")
    if usage.events is not None and usage.events < 0:
        raise invalid_field(f"{pointer}/events", "usage_negative", "a number of events is 0 or more")
    if any(one.at.tzinfo is None for one in usage.buckets or ()):
        raise invalid_field(
            f"{pointer}/buckets", "time_without_zone", "a bucket's `at` needs a zone, such as a final Z"
        )
    for value in _quantities(usage):
        try:
            parse_quantity(value)
        except Invalid as refused:
            raise invalid_field(pointer, refused.code, refused.message) from None


def _quantities(usage: PricedUsage) -> Iterator[Decimal]:
    yield usage.quantity
    yield from usage.event_amounts or ()
    yield from (one.quantity for one in usage.values or ())
    yield from (one.quantity for one in usage.buckets or ())
    for change in usage.changes or ():
        yield change.units
        yield change.weighed
