"""However late usage comes in, and however often it is looked at: what is billed in the end is what is right."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import count
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.late_usage import adjustment_lines
from domain.money import total
from domain.pricing import rate_lines
from schemas.billing import Counted
from schemas.late_usage import LateUsage, SoldPrice
from schemas.prices import FlatPrice, GraduatedPrice, PackagePrice, PerUnitPrice, PlanPrice, Price, Tier, VolumePrice
from tests.support.late_usage import BILLED, HELD, PLACE

amounts = st.decimals(min_value=0, max_value=100, places=4)
minimums = st.none() | st.decimals(min_value=0, max_value=50, places=2)
tiers = st.lists(amounts, min_size=2, max_size=4).map(
    lambda found: tuple(
        Tier(
            up_to=None if place == len(found) - 1 else Decimal(10 * (place + 1)), unit_amount=one, flat_amount=found[0]
        )
        for place, one in enumerate(found)
    )
)
models: st.SearchStrategy[Price] = st.one_of(
    st.builds(
        PerUnitPrice, unit_amount=amounts, minimum_amount=minimums, free_units=st.sampled_from([Decimal(0), Decimal(7)])
    ),
    st.builds(
        PackagePrice, amount=amounts, package_size=st.sampled_from([Decimal(3), Decimal(10)]), minimum_amount=minimums
    ),
    st.builds(GraduatedPrice, tiers=tiers, minimum_amount=minimums),
    st.builds(VolumePrice, tiers=tiers, minimum_amount=minimums),
    st.builds(FlatPrice, amount=amounts),
)


def billed_after(price: Price, counts: Sequence[Decimal]) -> Decimal:
    """What is billed for a period in all: closed with the first count, looked at with each of the others."""
    kept = PlanPrice(id="pri_calls", key="calls", currency="EUR", price=price, meter_id="met_count")
    numbers = count()
    amounts_billed = [line.amount for line in rate_lines(price, counts[0], "EUR")]
    billed = replace(BILLED, quantity=counts[0], adjusted=0)
    for found in counts[1:]:
        late = LateUsage(billed={HELD.id: (billed,)}, prices={"pri_calls": SoldPrice(price=kept, cadence="month")})
        usage = {PLACE: Counted(value=found, recount=found)}
        for line in adjustment_lines(HELD, late, usage, lambda prefix: f"{prefix}_{next(numbers)}"):
            assert line.adjusts is not None
            assert total([step.amount for step in line.steps]) == line.exact_amount
            amounts_billed.append(line.amount)
            billed = replace(billed, quantity=line.adjusts.quantity_after, adjusted=line.adjusts.sequence)
    return total(amounts_billed)


quantities = st.decimals(min_value=-5, max_value=60, places=3)


@given(price=models, counts=st.lists(quantities, min_size=1, max_size=6))
def test_what_is_billed_in_the_end_is_the_rating_of_what_there_is_in_the_end(
    price: Price, counts: list[Decimal]
) -> None:
    right = total([line.amount for line in rate_lines(price, counts[-1], "EUR")])
    assert billed_after(price, counts) == right


@given(
    price=models,
    events=st.lists(st.decimals(min_value=0, max_value=9, places=2), min_size=1, max_size=8),
    orders=st.randoms(use_true_random=False),
)
def test_any_order_of_late_and_repeated_events_bills_the_same_money(
    price: Price, events: list[Decimal], orders: Random
) -> None:
    sums = []
    for _ in range(2):
        arriving = [*enumerate(events), *enumerate(events[:2])]  # some come twice
        orders.shuffle(arriving)
        seen: dict[int, Decimal] = {}
        counts = [Decimal(0)]
        for number, amount in arriving:
            seen[number] = amount
            counts.append(total(list(seen.values())))
        sums.append(billed_after(price, counts))
    assert sums[0] == sums[1]
