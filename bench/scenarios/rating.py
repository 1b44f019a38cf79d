"""Rating in one process: the pure functions that turn quantities into lines, and periods into invoices."""

import asyncio
import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

from msgspec.structs import replace

from bench.figures import Measured
from bench.rig import Bench
from domain.billed_parts import parts_of
from domain.closing import bill_period
from domain.money import EXACT, round_money
from domain.pricing import rate
from schemas.closing import ClosableSubscription, DuePeriod
from schemas.plans import Plan
from schemas.prices import FlatPrice, GraduatedPrice, PackagePrice, PerUnitPrice, PlanPrice, Price, Tier, VolumePrice
from schemas.scope import Scope

NAME = "rating"
CURRENCY = "USD"
START, END = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
QUANTITIES = [Decimal(n * 7919 % 1_000_003) / 8 for n in range(1, 1000)]
_CALLS = 1000  # between two looks at the clock

_TIERS = (
    Tier(up_to=Decimal(1000), unit_amount=Decimal("0.002")),
    Tier(up_to=Decimal(10_000), unit_amount=Decimal("0.001"), flat_amount=Decimal(5)),
    Tier(unit_amount=Decimal("0.0005"), flat_amount=Decimal(10)),
)
PRICES: dict[str, Price] = {
    "flat": FlatPrice(amount=Decimal("29.00")),
    "per unit": PerUnitPrice(unit_amount=Decimal("0.0125"), free_units=Decimal(100)),
    "package": PackagePrice(amount=Decimal("1.50"), package_size=Decimal(100)),
    "graduated": GraduatedPrice(tiers=_TIERS),
    "volume": VolumePrice(tiers=_TIERS),
}
METERED = ("per unit", "graduated", "volume")


async def run(bench: Bench) -> list[Measured]:
    return await asyncio.to_thread(measured, bench)


def measured(bench: Bench) -> list[Measured]:
    within_s = bench.scale.load_s / 4
    repeats = range(bench.scale.repeats)
    least = tuple(per_second(multiply_and_round(), within_s) for _ in repeats)
    ceiling = sorted(least)[len(least) // 2]
    lines = [
        Measured(
            scenario=NAME,
            figure=f"{model} price",
            unit="lines/s",
            values=tuple(per_second(rated(price), within_s) for _ in repeats),
            ceiling=ceiling,
        )
        for model, price in PRICES.items()
    ]
    invoices = tuple(per_second(billed(), within_s) for _ in repeats)
    figure = f"invoice of a fee and {len(METERED)} usage lines"
    return [*lines, Measured(scenario=NAME, figure=figure, unit="invoices/s", values=invoices)]


def per_second(call: Callable[[], object], within_s: float) -> float:
    """Calls a second."""
    count = 0
    begun = time.perf_counter()
    while (seconds := time.perf_counter() - begun) < within_s:
        for _ in range(_CALLS):
            call()
        count += _CALLS
    return count / seconds


def rated(price: Price) -> Callable[[], object]:
    quantities = itertools.cycle(QUANTITIES)
    return lambda: rate(price, next(quantities), CURRENCY)


def multiply_and_round() -> Callable[[], object]:
    """The least a line can be: one exact product and its one rounding."""
    quantities, unit_amount = itertools.cycle(QUANTITIES), Decimal("0.0125")
    return lambda: round_money(EXACT.multiply(next(quantities), unit_amount), CURRENCY)


def billed() -> Callable[[], object]:
    fee = PlanPrice(id="pri_0", key="fee", currency=CURRENCY, price=PRICES["flat"])
    used = [
        PlanPrice(id=f"pri_{place}", key=model, currency=CURRENCY, price=PRICES[model], meter_id=f"met_{place}")
        for place, model in enumerate(METERED, start=1)
    ]
    prices = (fee, *used)
    plan = Plan(
        id="pla_1",
        key="rated",
        name="",
        currency=CURRENCY,
        version=1,
        version_id="plv_1",
        status="published",
        cadence="month",
        prices=prices,
        entitlements=(),
        revision=1,
        created_at=START,
        archived_at=None,
    )
    held = ClosableSubscription(
        id="sub_1",
        scope=Scope("default", "live"),
        customer_id="cus_1",
        plan_version_id=plan.version_id,
        billing="anniversary",
        cadence="month",
        timezone="UTC",
        start_at=START,
        end_at=None,
        closed_to=START,
        next_close_at=END,
    )
    period = DuePeriod(subscription_id=held.id, start=START, end=END)
    line_ids = [f"lin_{place}" for place in range(len(prices))]
    quantities = itertools.cycle(QUANTITIES)

    def bill() -> object:
        parts = [
            part if part.price.meter_id is None else replace(part, quantity=next(quantities))
            for part in parts_of(held, plan, period)
        ]
        return bill_period(
            invoice_id="inv_1", line_ids=line_ids, held=held, currency=CURRENCY, parts=parts, period=period, cut=1
        )

    return bill
