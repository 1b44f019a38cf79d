"""What usage costs at a price: the question and its answer. Nothing of it is stored."""

from decimal import Decimal

from msgspec import Struct

from schemas.priced_usage import PricedUsage
from schemas.prices import Price, RatedLine


class QuoteRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Exactly one of `quantity` and `usage` is there. Both are those of a period from its start on.

    `before` is what earlier lines of the period were billed for; `last` says that none follows, so that commitments and
    minimums are filled up.
    """

    currency: str  # ISO 4217, upper case
    price: Price
    quantity: Decimal | None = None
    usage: PricedUsage | None = None
    before: PricedUsage | None = None
    last: bool = True


class Quote(Struct, frozen=True, kw_only=True):
    """`amount` is the sum of the rounded lines. `explanation` is one sentence a step, in order."""

    currency: str
    amount: Decimal
    lines: tuple[RatedLine, ...]
    explanation: tuple[str, ...] = ()
