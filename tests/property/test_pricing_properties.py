"""Pricing is monotone where it must be, the steps of a line sum to it, and a split line comes to the same."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.errors import Invalid
from domain.money import EXACT, round_money, total
from domain.pricing import rate, rate_lines, rerate, validate_price
from domain.pricing.commitments import commit_lines
from domain.pricing.units import convert
from schemas.periods import Cadence
from schemas.price_terms import Bucketing, Commitment, PercentageDiscount, PricingUnit, UnitConversion
from schemas.priced_usage import BucketUsage, PricedUsage, TermProgress, ValueUsage, WeighedChange
from schemas.prices import (
    DynamicPrice,
    FlatPrice,
    GraduatedPercentagePrice,
    GraduatedPrice,
    MatrixCell,
    MatrixPrice,
    PackagePrice,
    PercentagePrice,
    PerUnitPrice,
    Price,
    RatedLine,
    RateTier,
    Tier,
    VolumePrice,
)

ZERO = Decimal(0)
amounts = st.decimals(min_value=0, max_value=10**12, places=6, allow_nan=False)
small_amounts = st.decimals(min_value=0, max_value=1000, places=4, allow_nan=False)
quantities = st.decimals(min_value=0, max_value=10**12, places=12, allow_nan=False)
sizes = st.decimals(min_value=Decimal("0.000001"), max_value=10**6, places=6, allow_nan=False)
percents = st.decimals(min_value=0, max_value=100, places=3, allow_nan=False)
positives = st.decimals(min_value=Decimal("0.01"), max_value=10**6, places=2, allow_nan=False)
counts = st.integers(min_value=0, max_value=12)
currencies = st.sampled_from(["USD", "JPY", "KWD", "CLF"])


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def tiers_of(make: Callable[..., Any], names: Sequence[str]) -> st.SearchStrategy[tuple[Any, ...]]:
    @st.composite
    def drawn(draw: st.DrawFn) -> tuple[Any, ...]:
        bounds = list(accumulate(draw(st.lists(sizes, max_size=5)), EXACT.add))
        rates = {name: percents if name == "rate_percent" else amounts for name in names}
        return tuple(make(up_to=bound, **{name: draw(rates[name]) for name in names}) for bound in [*bounds, None])

    return drawn()


tiers = tiers_of(Tier, ["unit_amount", "flat_amount"])
discounts = st.lists(st.builds(PercentageDiscount, percent=percents), max_size=3).map(tuple)
conversions = st.builds(
    UnitConversion,
    operation=st.sampled_from(["multiply", "divide"]),
    factor=sizes,
    rounding=st.sampled_from(["none", "up", "down", "half_up"]),
)
amount_commitments = st.builds(
    Commitment, amount=positives, true_up=st.booleans(), overage_factor=st.sampled_from([Decimal(1), Decimal("1.5")])
)
quantity_commitments = st.builds(
    Commitment, quantity=positives, true_up=st.booleans(), overage_factor=st.sampled_from([Decimal(1), Decimal(3)])
)
units = st.builds(PricingUnit, code=st.just("credits"), rate=positives)


@st.composite
def limits(draw: st.DrawFn) -> dict[str, Any]:
    least, greatest = draw(maybe(amounts)), draw(maybe(amounts))
    if least is not None and greatest is not None:
        least, greatest = sorted((least, greatest))
    return {"minimum_amount": least, "maximum_amount": greatest}


@st.composite
def with_terms(draw: st.DrawFn, prices: st.SearchStrategy[Price], *, quantity: bool = False) -> Price:
    price, terms = draw(prices), draw(limits())
    terms |= {"discounts": draw(discounts), "pricing_unit": draw(maybe(units))}
    if quantity:
        terms |= {"conversion": draw(maybe(conversions))}
    if not isinstance(price, FlatPrice):
        committed = amount_commitments | quantity_commitments if quantity else amount_commitments
        terms |= {"commitment": draw(maybe(committed))}
    full = replace(price, **terms)
    try:
        validate_price(full)
    except Invalid as invalid:
        assert invalid.code == "commitment_above_maximum"  # noqa: PT017 - all else is valid by construction
        full = replace(full, maximum_amount=None)
    return full


flat_prices = st.builds(FlatPrice, amount=amounts)
per_unit_prices = st.builds(PerUnitPrice, unit_amount=amounts, free_units=quantities)
package_prices = st.builds(
    PackagePrice,
    amount=amounts,
    package_size=sizes,
    rounding=st.sampled_from(["up", "down"]),
    free_units=quantities,
)
graduated_prices = st.builds(GraduatedPrice, tiers=tiers, free_units=quantities)
volume_prices = st.builds(VolumePrice, tiers=tiers, free_units=quantities)
rate_prices = st.builds(GraduatedPercentagePrice, tiers=tiers_of(RateTier, ["rate_percent", "flat_amount"]))
dynamic_prices = st.builds(DynamicPrice, multiplier=small_amounts)
share_prices = st.builds(PercentagePrice, rate_percent=percents, free_amount=maybe(amounts))


@st.composite
def event_prices(draw: st.DrawFn) -> PercentagePrice:
    least, greatest = sorted((draw(small_amounts), draw(small_amounts)))
    return PercentagePrice(
        rate_percent=draw(percents),
        fixed_amount=draw(small_amounts),
        free_events=draw(maybe(counts)),
        free_amount=draw(maybe(small_amounts)),
        event_minimum=draw(st.sampled_from([None, least])),
        event_maximum=draw(st.sampled_from([None, greatest])),
    )


WORDS = ("eu", "us", "ap")
matrix_prices = st.builds(
    lambda dear, default, free: MatrixPrice(
        dimensions=("region",),
        cells=tuple(MatrixCell(values=(word,), unit_amount=each) for word, each in zip(WORDS, dear, strict=False)),
        default_unit_amount=default,
        free_units=free,
    ),
    st.lists(amounts, max_size=3),
    amounts,
    quantities,
)
of_quantity = per_unit_prices | package_prices | graduated_prices
monotone_prices: st.SearchStrategy[Price] = st.one_of(
    with_terms(flat_prices | rate_prices | dynamic_prices | share_prices),
    with_terms(of_quantity, quantity=True),
)
prices: st.SearchStrategy[Price] = monotone_prices | with_terms(volume_prices, quantity=True)


def billed(lines: Sequence[RatedLine]) -> Decimal:
    return total([line.amount for line in lines])


def events(values: Sequence[Decimal]) -> PricedUsage:
    return PricedUsage(event_amounts=tuple(values))


def by_region(values: Sequence[Decimal]) -> PricedUsage:
    return PricedUsage(
        values=tuple(ValueUsage(values=(word,), quantity=each) for word, each in zip(WORDS, values, strict=True))
    )


def hourly(values: Sequence[Decimal]) -> PricedUsage:
    start = datetime(2026, 3, 29, tzinfo=UTC)
    rows = (BucketUsage(at=start + timedelta(hours=hour), quantity=each) for hour, each in enumerate(values))
    return PricedUsage(buckets=tuple(rows))


@given(prices, quantities, currencies)
def test_the_steps_sum_to_the_line_which_is_rounded_once(price: Price, quantity: Decimal, currency: str) -> None:
    line, *true_ups = rate_lines(price, quantity, currency)
    assert line == rate(price, quantity, currency)
    for each in (line, *true_ups):
        assert total([step.amount for step in each.steps]) == each.exact_amount
        assert each.amount == round_money(each.exact_amount, currency)
        assert each.amount >= 0


@given(of_quantity | volume_prices, quantities)
def test_the_steps_of_units_cover_the_quantity_once(price: Price, quantity: Decimal) -> None:
    steps = [step for step in rate(price, quantity, "USD").steps if step.kind not in {"tier_flat", "flat"}]
    reached = ZERO
    for step in steps:
        assert step.from_quantity == reached
        reached = step.to_quantity
    assert not steps or reached == quantity


@given(monotone_prices, quantities, quantities, currencies)
def test_more_usage_never_costs_less_but_in_volume_pricing(
    price: Price, one: Decimal, other: Decimal, currency: str
) -> None:
    less, more = sorted((one, other))
    assert rate(price, less, currency).amount <= rate(price, more, currency).amount
    assert billed(rate_lines(price, less, currency)) <= billed(rate_lines(price, more, currency))


@given(with_terms(event_prices()), st.lists(small_amounts, max_size=8), small_amounts, currencies)
def test_one_more_event_never_costs_less(price: Price, values: list[Decimal], another: Decimal, currency: str) -> None:
    assert rate(price, events(values), currency).amount <= rate(price, events([*values, another]), currency).amount


@given(with_terms(matrix_prices), st.tuples(quantities, quantities, quantities), counts, quantities)
def test_more_usage_of_any_value_of_a_matrix_never_costs_less(
    price: Price, used: tuple[Decimal, ...], where: int, more: Decimal
) -> None:
    grown = [EXACT.add(each, more) if n == where % 3 else each for n, each in enumerate(used)]
    assert rate(price, by_region(used), "USD").amount <= rate(price, by_region(grown), "USD").amount


@given(of_quantity, quantities, quantities, quantities)
def test_more_free_units_never_cost_more(price: Any, one: Decimal, other: Decimal, quantity: Decimal) -> None:
    less, more = sorted((one, other))
    dear = rate(replace(price, free_units=less), quantity, "USD").exact_amount
    assert rate(replace(price, free_units=more), quantity, "USD").exact_amount <= dear


@given(event_prices(), st.lists(small_amounts, max_size=8), counts, small_amounts)
def test_more_that_is_free_never_costs_more_per_event(
    price: PercentagePrice, values: list[Decimal], free_events: int, free_amount: Decimal
) -> None:
    less = replace(price, free_events=free_events, free_amount=free_amount)
    dear = rate(less, events(values), "USD").exact_amount
    for more in (
        replace(less, free_events=free_events + 1),
        replace(less, free_events=None),
        replace(less, free_amount=EXACT.add(free_amount, Decimal("0.5"))),
        replace(less, free_amount=None),
    ):
        assert rate(more, events(values), "USD").exact_amount <= dear


def in_parts(
    price: Price, growing: Sequence[Decimal | PricedUsage], currency: str, term: TermProgress
) -> list[RatedLine]:
    """The lines of a period that is billed at each usage in turn."""
    lines = [*rate_lines(price, growing[0], currency, last=len(growing) == 1, term=term)]
    for before, after in pairwise(growing):
        last = after is growing[-1]
        lines += rate_lines(price, after, currency, before=before, last=last, term=term)
    return lines


@given(prices, st.lists(quantities, min_size=1, max_size=5), currencies)
def test_a_line_split_at_any_points_rates_to_the_same_total(price: Price, points: list[Decimal], currency: str) -> None:
    growing = sorted(points)
    lines = in_parts(price, growing, currency, TermProgress())
    assert billed(lines) == billed(rate_lines(price, growing[-1], currency))
    for line in lines:
        assert total([step.amount for step in line.steps]) == line.exact_amount


@given(with_terms(event_prices()), st.lists(small_amounts, max_size=8), counts, currencies)
def test_events_split_between_two_lines_rate_to_the_same_total(
    price: Price, values: list[Decimal], at: int, currency: str
) -> None:
    growing = [events(values[:at]), events(values)]
    assert billed(in_parts(price, growing, currency, TermProgress())) == billed(rate_lines(price, growing[1], currency))


@given(with_terms(matrix_prices), st.lists(st.tuples(quantities, quantities, quantities), min_size=2, max_size=3))
def test_a_matrix_split_between_lines_rates_to_the_same_total(price: Price, parts: list[tuple[Decimal, ...]]) -> None:
    growing = [by_region([total(column) for column in zip(*parts[: n + 1], strict=True)]) for n in range(len(parts))]
    assert billed(in_parts(price, growing, "USD", TermProgress())) == billed(rate_lines(price, growing[-1], "USD"))


window_commitments = (amount_commitments | quantity_commitments).map(lambda each: replace(each, per="window"))


@given(
    of_quantity | volume_prices,
    maybe(window_commitments),
    maybe(conversions),
    st.lists(quantities, min_size=1, max_size=6),
    counts,
)
def test_buckets_split_between_lines_rate_to_the_same_total(
    price: Any, commitment: Commitment | None, conversion: UnitConversion | None, values: list[Decimal], at: int
) -> None:
    bucketed = replace(price, bucket=Bucketing(size="hour"), commitment=commitment, conversion=conversion)
    validate_price(bucketed)
    growing = [hourly(values[:at]), hourly(values)]
    lines = in_parts(bucketed, growing, "USD", TermProgress())
    assert billed(lines) == billed(rate_lines(bucketed, growing[1], "USD"))


@given(of_quantity | volume_prices, st.lists(quantities, max_size=6), st.permutations(range(6)))
def test_a_bucketed_line_is_the_sum_of_its_buckets_in_any_order(
    price: Any, values: list[Decimal], order: list[int]
) -> None:
    bucketed = replace(price, bucket=Bucketing(size="hour"), free_units=ZERO)
    usage = hourly(values)
    buckets = usage.buckets or ()
    shuffled = replace(usage, buckets=tuple(buckets[n] for n in order if n < len(buckets)))
    alone = [rate(replace(price, free_units=ZERO), value, "USD").exact_amount for value in values if value]
    line = rate(bucketed, usage, "USD")
    assert line.exact_amount == total(alone)
    assert line == rate(bucketed, shuffled, "USD")


@given(of_quantity | volume_prices, st.lists(quantities, max_size=6))
def test_an_empty_bucket_costs_nothing(price: Any, values: list[Decimal]) -> None:
    bucketed = replace(price, bucket=Bucketing(size="hour"))
    with_empty = hourly([*values, ZERO, ZERO])
    assert rate(bucketed, with_empty, "USD").exact_amount == rate(bucketed, hourly(values), "USD").exact_amount


@given(prices, quantities, quantities, currencies)
def test_what_was_billed_and_the_difference_make_the_period_anew(
    price: Price, billed_for: Decimal, now: Decimal, currency: str
) -> None:
    first = rate_lines(price, billed_for, currency)
    again = rerate(price, now, billed_for, currency)
    assert EXACT.add(billed(first), billed(again)) == billed(rate_lines(price, now, currency))
    for line in again:
        assert total([step.amount for step in line.steps]) == line.exact_amount


@given(conversions, quantities, quantities)
def test_conversion_keeps_the_order(conversion: UnitConversion, one: Decimal, other: Decimal) -> None:
    less, more = sorted((one, other))
    assert 0 <= convert(conversion, less) <= convert(conversion, more)
    assert convert(conversion, ZERO) == 0


@given(prices, quantities, currencies)
def test_a_maximum_and_a_minimum_hold(price: Price, quantity: Decimal, currency: str) -> None:
    lines = rate_lines(price, quantity, currency)
    unit = Decimal(1) if price.pricing_unit is None else price.pricing_unit.rate
    if price.maximum_amount is not None:
        assert lines[0].amount <= round_money(EXACT.multiply(price.maximum_amount, unit), currency)
    if price.minimum_amount is not None:
        assert billed(lines) >= round_money(EXACT.multiply(price.minimum_amount, unit), currency)


@given(of_quantity | volume_prices, amount_commitments | quantity_commitments, quantities, currencies)
def test_a_commitment_is_charged_and_the_excess_times_its_factor(
    price: Any, commitment: Commitment, quantity: Decimal, currency: str
) -> None:
    base = rate(price, quantity, currency).exact_amount
    if commitment.amount is not None:
        committed, reached = commitment.amount, base >= commitment.amount
    else:
        committed = rate(price, commitment.quantity or ZERO, currency).exact_amount
        reached = quantity >= (commitment.quantity or ZERO)
    if reached:
        excess = max(EXACT.subtract(base, committed), ZERO)
        wanted = EXACT.add(committed, EXACT.multiply(excess, commitment.overage_factor))
    else:
        wanted = max(base, committed) if commitment.true_up else base
    lines = rate_lines(replace(price, commitment=commitment), quantity, currency)
    assert billed(lines) == round_money(wanted, currency)


@given(of_quantity, st.lists(quantities, min_size=1, max_size=4), positives, currencies)
def test_a_term_commitment_charges_its_excess_once_and_fills_up_at_the_end(
    price: Any, periods: list[Decimal], amount: Decimal, currency: str
) -> None:
    factor = Decimal(2)
    commitment = Commitment(amount=amount, per="term", term=Cadence(unit="year"), true_up=True, overage_factor=factor)
    progress, exact = TermProgress(), ZERO
    for position, quantity in enumerate(periods, 1):
        progress = replace(progress, last=position == len(periods))
        (line, *true_ups) = rate_lines(replace(price, commitment=commitment), quantity, currency, term=progress)
        use = line.commitment
        assert use is not None
        assert bool(true_ups) <= progress.last
        exact = EXACT.add(exact, EXACT.add(line.exact_amount, use.true_up))
        progress = replace(progress, amount=EXACT.add(progress.amount, use.base))
    over = max(EXACT.subtract(progress.amount, amount), ZERO)
    within = EXACT.subtract(progress.amount, over)
    assert exact == EXACT.add(max(amount, within), EXACT.multiply(over, factor))


@given(st.lists(amounts, max_size=5), amount_commitments, currencies)
def test_a_subscription_commitment_comes_on_top_of_its_lines(
    values: list[Decimal], commitment: Commitment, currency: str
) -> None:
    lines = [rate(FlatPrice(amount=value), ZERO, currency) for value in values]
    used, committed = billed(lines), round_money(commitment.amount or ZERO, currency)
    every = replace(commitment, amount=committed or Decimal(1))
    added = billed(commit_lines(every, lines, currency))
    least = every.amount or ZERO
    if used >= least:
        over = EXACT.multiply(EXACT.subtract(used, least), EXACT.subtract(every.overage_factor, Decimal(1)))
        assert added == round_money(over, currency)
    else:
        assert EXACT.add(used, added) == (least if every.true_up else used)


@given(graduated_prices, st.lists(sizes, max_size=6))
def test_units_that_weigh_whole_are_rated_as_units(price: GraduatedPrice, grown: list[Decimal]) -> None:
    plain = replace(price, free_units=ZERO)
    changes = PricedUsage(changes=tuple(WeighedChange(units=each, weighed=each) for each in grown))
    assert rate(plain, changes, "USD").exact_amount == rate(plain, total(grown), "USD").exact_amount


@given(per_unit_prices, amounts, st.fractions(min_value=0, max_value=1))
def test_a_minimum_for_a_part_of_a_period_is_its_part(price: Any, least: Decimal, part: Fraction) -> None:
    lines = rate_lines(replace(price, minimum_amount=least), ZERO, "USD", part=part)
    assert billed(lines) == (round_money(Fraction(least) * part, "USD") if part != 1 else round_money(least, "USD"))
