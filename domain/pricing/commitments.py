"""Usage that was promised (semantics, prices): at or above it the commitment is charged, and the excess times a factor;
below it the commitment where there is a true-up, else the usage.

The usage is rated from its start up to the commitment and up to its end; the excess is the difference. So tiers are
rated where the split lies, never at an average price.
"""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from msgspec.structs import replace

from domain.errors import Invalid
from domain.money import EXACT, ZERO, round_money, total
from domain.pricing.models import QuantityPrice, line_quantity, quantity_steps
from domain.pricing.steps import ONE, adjustment, amount_of, line_of
from domain.proration import prorated_quantity
from schemas.price_terms import Commitment
from schemas.priced_usage import PricedUsage, TermProgress
from schemas.prices import CommitmentUse, RatedLine, RatedStep

WHOLE = Fraction(1)
NO_TERM = TermProgress()


def settle(base: Decimal, committed: Decimal, factor: Decimal, *, fill: bool) -> CommitmentUse:
    """`base` is what the usage costs at list price, `committed` what the commitment does; `fill`: up to it at least."""
    excess = max(EXACT.subtract(base, committed), ZERO)
    missing = max(EXACT.subtract(committed, base), ZERO)
    return CommitmentUse(
        base=base,
        utilized=EXACT.subtract(base, excess),
        overage=EXACT.multiply(excess, factor),
        true_up=missing if fill else ZERO,
    )


def uncommitted(base: Decimal) -> CommitmentUse:
    return CommitmentUse(base=base, utilized=base, overage=ZERO, true_up=ZERO)


def sum_of(uses: Sequence[CommitmentUse]) -> CommitmentUse:
    return CommitmentUse(
        base=total([use.base for use in uses]),
        utilized=total([use.utilized for use in uses]),
        overage=total([use.overage for use in uses]),
        true_up=total([use.true_up for use in uses]),
        quantity=total([use.quantity for use in uses]),
    )


def overage_steps(use: CommitmentUse, quantity: Decimal) -> list[RatedStep]:
    """What the factor adds to the usage at list price; nothing at a factor of 1."""
    added = EXACT.subtract(EXACT.add(use.utilized, use.overage), use.base)
    return [adjustment("overage", added, quantity)] if added else []


def settle_quantity(
    price: QuantityPrice,
    quantity: Decimal,
    free_units: Decimal,
    commitment: Commitment,
    committed: Decimal,
    *,
    fill: bool,
) -> CommitmentUse:
    """A commitment of `committed` units, of which `quantity` were used; both rated by the price from the first unit on.

    Usage at or above the commitment never costs less than it, also where a volume tier makes more units cheaper.
    """
    base = _up_to(price, quantity, free_units)
    reached = quantity >= committed
    use = settle(base, _up_to(price, committed, free_units), commitment.overage_factor, fill=fill or reached)
    # Below the commitment there is no excess, also where fewer units cost more.
    if not reached:
        use = replace(use, utilized=base, overage=ZERO)
    return replace(use, quantity=quantity)


def settle_period(
    price: QuantityPrice | None,
    steps: Sequence[RatedStep],
    usage: PricedUsage,
    commitment: Commitment,
    rate: Decimal,
    currency: str,
    part: Fraction,
    term: TermProgress,
) -> CommitmentUse:
    """A commitment of the period, or of a term that the period belongs to. `steps` and the answer are in the currency.

    `rate` is that of the price's unit. A period's commitment is taken for the `part` of it that is billed; a term's
    for what earlier periods left of it, and it is filled up in the last one. `price` is needed for quantities.
    Raises Invalid `usage_unfit`.
    """
    fill = _fills(commitment, term)
    if commitment.amount is not None:
        left = _amount_left(commitment, EXACT.multiply(commitment.amount, rate), currency, part, term)
        return settle(amount_of(steps), left, commitment.overage_factor, fill=fill)
    if price is None or commitment.quantity is None or usage.changes is not None:
        raise Invalid("usage_unfit", "a commitment of a quantity needs usage that is one quantity")
    left = commitment.quantity
    if commitment.per == "term":
        left = max(EXACT.subtract(left, term.quantity), ZERO)
    elif part != WHOLE:
        left = prorated_quantity(left, part)
    use = settle_quantity(price, max(line_quantity(usage), ZERO), price.free_units, commitment, left, fill=fill)
    return in_currency(use, rate)


def in_currency(use: CommitmentUse, rate: Decimal) -> CommitmentUse:
    if rate == ONE:
        return use
    return replace(
        use,
        base=EXACT.multiply(use.base, rate),
        utilized=EXACT.multiply(use.utilized, rate),
        overage=EXACT.multiply(use.overage, rate),
        true_up=EXACT.multiply(use.true_up, rate),
    )


def amount_for(amount: Decimal, part: Fraction, currency: str) -> Decimal:
    """A period's commitment or minimum for a part of it, rounded to the minor unit; whole it stays as it is."""
    return amount if part == WHOLE else round_money(Fraction(amount) * part, currency)


def _fills(commitment: Commitment, term: TermProgress) -> bool:
    """Whether usage below the commitment is filled up now: of a term, in its last period."""
    return commitment.true_up and (term.last or commitment.per != "term")


def _amount_left(commitment: Commitment, whole: Decimal, currency: str, part: Fraction, term: TermProgress) -> Decimal:
    """What of the committed amount is to be reached in this period: of a term, what earlier periods left of it."""
    if commitment.per == "term":
        return max(EXACT.subtract(whole, term.amount), ZERO)
    return amount_for(whole, part, currency)


def commit_lines(
    commitment: Commitment,
    lines: Sequence[RatedLine],
    currency: str,
    *,
    last: bool = True,
    part: Fraction = WHOLE,
    term: TermProgress = NO_TERM,
) -> tuple[RatedLine, ...]:
    """A subscription's commitment over the lines that count towards it: what comes on top of them, as lines.

    Lines are those of the whole period as they are billed, in rounded amounts. What a line's own commitment charged
    as overage neither counts nor is charged again. `last`: the period ends with these lines (true-ups wait for that).
    The commitment is an amount. Raises Invalid `unknown_currency`.
    """
    counted = total([max(EXACT.subtract(line.amount, _overage_in(line)), ZERO) for line in lines])
    left = _amount_left(commitment, commitment.amount or ZERO, currency, part, term)
    fill = last and _fills(commitment, term)
    use = settle(round_money(counted, currency), left, commitment.overage_factor, fill=fill)
    fills = [adjustment("commitment", use.true_up, ONE)] if use.true_up else []
    added = (
        line_of("usage", overage_steps(use, ONE), ONE, currency, use),
        line_of("true_up", fills, ONE, currency, use),
    )
    return tuple(line for line in added if line.steps)


def _overage_in(line: RatedLine) -> Decimal:
    return ZERO if line.commitment is None else line.commitment.overage


def _up_to(price: QuantityPrice, quantity: Decimal, free_units: Decimal) -> Decimal:
    return amount_of(quantity_steps(price, max(EXACT.subtract(quantity, free_units), ZERO)))
