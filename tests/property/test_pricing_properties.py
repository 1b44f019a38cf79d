"""Pricing is monotone where it must be, and the steps of a line sum to it."""

from decimal import Decimal
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from domain.money import EXACT, round_money, total
from domain.pricing import rate, validate_price
from schemas.prices import FlatPrice, GraduatedPrice, PackagePrice, PerUnitPrice, Price, Tier, VolumePrice

amounts = st.decimals(min_value=0, max_value=10**12, places=6, allow_nan=False)
quantities = st.decimals(min_value=0, max_value=10**12, places=12, allow_nan=False)
sizes = st.decimals(min_value=Decimal("0.000001"), max_value=10**6, places=6, allow_nan=False)


@st.composite
def tiers(draw: st.DrawFn) -> tuple[Tier, ...]:
    bounds = list(accumulate(draw(st.lists(sizes, max_size=5)), EXACT.add))
    return tuple(Tier(up_to=bound, unit_amount=draw(amounts), flat_amount=draw(amounts)) for bound in [*bounds, None])


monotone_prices: st.SearchStrategy[Price] = st.one_of(
    st.builds(FlatPrice, amount=amounts),
    st.builds(PerUnitPrice, unit_amount=amounts, free_units=quantities),
    st.builds(
        PackagePrice,
        amount=amounts,
        package_size=sizes,
        rounding=st.sampled_from(["up", "down"]),
        free_units=quantities,
    ),
    st.builds(GraduatedPrice, tiers=tiers(), free_units=quantities),
)
prices: st.SearchStrategy[Price] = monotone_prices | st.builds(VolumePrice, tiers=tiers(), free_units=quantities)
currencies = st.sampled_from(["USD", "JPY", "KWD", "CLF"])


@given(prices, quantities, currencies)
def test_the_steps_sum_to_the_line_which_is_rounded_once(price: Price, quantity: Decimal, currency: str) -> None:
    validate_price(price)
    line = rate(price, quantity, currency)
    assert total([step.amount for step in line.steps]) == line.exact_amount
    assert line.amount == round_money(line.exact_amount, currency)
    assert line.amount >= 0


@given(prices, quantities)
def test_the_steps_of_units_cover_the_quantity_once(price: Price, quantity: Decimal) -> None:
    steps = [step for step in rate(price, quantity, "USD").steps if step.kind not in {"tier_flat", "flat"}]
    reached = Decimal(0)
    for step in steps:
        assert step.from_quantity == reached
        reached = step.to_quantity
    assert not steps or reached == quantity


@given(monotone_prices, quantities, quantities)
def test_more_usage_never_costs_less_but_in_volume_pricing(price: Price, one: Decimal, other: Decimal) -> None:
    less, more = sorted((one, other))
    assert rate(price, less, "USD").amount <= rate(price, more, "USD").amount


@given(tiers(), quantities, quantities)
def test_a_graduated_line_split_at_any_point_rates_to_the_same_total(
    rungs: tuple[Tier, ...], one: Decimal, other: Decimal
) -> None:
    price = GraduatedPrice(tiers=rungs)
    at, whole = sorted((one, other))
    first, both = rate(price, at, "USD").exact_amount, rate(price, whole, "USD").exact_amount
    marginal = EXACT.subtract(both, first)
    assert marginal >= 0
    assert EXACT.add(first, marginal) == both
