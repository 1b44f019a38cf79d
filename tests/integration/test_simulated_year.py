"""A year of subscriptions in short form: events come late, twice and in any order, every step of a closing is done twice,
and in the end each customer has paid what the truth comes to, to the cent.

The truth is rated here, by fractions and loops of this file alone.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from schemas.periods import BillingAnchor
from schemas.prices import FlatPrice, GraduatedPrice, PackagePrice, PerUnitPrice, PlanPrice, Price, Tier, VolumePrice
from stores.postgres.engine import transaction
from stores.postgres.plans import create_plan
from tests.support.closing import SCOPE, Books, books, plan
from tests.support.closing_api import BooksApi
from tests.support.closing_time import begin, close, end, look, move_to
from tests.support.usage_events import TestEvent

SEED = 20_260_101
YEAR = datetime(2026, 1, 1, tzinfo=UTC)
YEAR_END = datetime(2027, 1, 1, tzinfo=UTC)
SUBSCRIPTIONS, EVENTS_EACH = 14, 150
STEP = timedelta(days=15)
LATE_AT_MOST_DAYS = 34
D = Decimal

Amount = Callable[[Fraction, Fraction], Fraction]


class Model(NamedTuple):
    """A price of a meter, and what a quantity costs by it; the second argument is the billed part of the period."""

    meter_id: str
    price: Price
    cost: Amount


class Life(Struct, frozen=True, kw_only=True):
    name: str
    start_at: datetime
    end_at: datetime | None
    calendar: bool
    fee: Fraction
    models: tuple[Model, ...]


class Arrival(NamedTuple):
    at: datetime
    life: int
    time: datetime
    amount: Decimal
    user: str


def rounded(amount: Fraction) -> Fraction:
    """Half away from zero, to the cent."""
    cents = (2 * abs(amount) * 100 + 1) // 2
    return Fraction(cents if amount >= 0 else -cents, 100)


def ceiling(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)


def per_unit(random: Random) -> tuple[Price, Amount]:
    unit, least = D(random.randrange(1, 400)) / 10_000, D(random.randrange(0, 300)) / 100

    def cost(quantity: Fraction, part: Fraction) -> Fraction:
        return max(rounded(quantity * Fraction(unit)), rounded(Fraction(least) * part))

    return PerUnitPrice(unit_amount=unit, minimum_amount=least or None), cost


def package(random: Random) -> tuple[Price, Amount]:
    size, amount, free = random.randrange(2, 9), D(random.randrange(1, 500)) / 100, random.randrange(0, 6)

    def cost(quantity: Fraction, part: Fraction) -> Fraction:
        del part
        return rounded(ceiling(max(quantity - free, Fraction(0)) / size) * Fraction(amount))

    return PackagePrice(amount=amount, package_size=D(size), free_units=D(free)), cost


def tiers_of(random: Random) -> tuple[Tier, ...]:
    first = random.randrange(1, 8)
    bounds = (D(first), D(first + random.randrange(1, 8)), None)
    return tuple(
        Tier(up_to=bound, unit_amount=D(random.randrange(0, 900)) / 1000, flat_amount=D(random.randrange(0, 200)) / 100)
        for bound in bounds
    )


def graduated(random: Random) -> tuple[Price, Amount]:
    tiers = tiers_of(random)

    def cost(quantity: Fraction, part: Fraction) -> Fraction:
        del part
        left, below, sums = quantity, Fraction(0), Fraction(0)
        for position, tier in enumerate(tiers):
            if position and not left:
                break
            room = left if tier.up_to is None else min(left, Fraction(tier.up_to) - below)
            sums += room * Fraction(tier.unit_amount) + Fraction(tier.flat_amount)
            left, below = left - room, below + room
        return rounded(sums)

    return GraduatedPrice(tiers=tiers), cost


def volume(random: Random) -> tuple[Price, Amount]:
    tiers = tiers_of(random)

    def cost(quantity: Fraction, part: Fraction) -> Fraction:
        del part
        tier = next(one for one in tiers if one.up_to is None or quantity <= Fraction(one.up_to))
        return rounded(quantity * Fraction(tier.unit_amount) + Fraction(tier.flat_amount))

    return VolumePrice(tiers=tiers), cost


def month_later(at: datetime, months: int = 1) -> datetime:
    """No day is beyond the 28th here."""
    year, month = divmod(at.year * 12 + at.month - 1 + months, 12)
    return at.replace(year=year, month=month + 1)


def seconds(span: timedelta) -> int:
    return span // timedelta(seconds=1)


def lives(random: Random) -> list[Life]:
    made = []
    for number in range(SUBSCRIPTIONS):
        start_at = YEAR + timedelta(days=random.randrange(200))
        start_at = start_at.replace(day=random.randrange(1, 29), hour=random.randrange(24), second=random.randrange(60))
        calendar = number % 3 == 0
        first = month_later(start_at.replace(day=1, hour=0, minute=0, second=0)) if calendar else start_at
        meters = ("met_count", "met_sum", "met_max", "met_unique_count")
        makers = (per_unit, package, graduated, volume)
        made.append(
            Life(
                name=f"customer-{number}",
                start_at=start_at,
                end_at=month_later(first, random.randrange(1, 5)) if number % 4 == 1 else None,
                calendar=calendar,
                fee=Fraction(random.randrange(0, 5000), 100),
                models=tuple(Model(meter, *random.choice(makers)(random)) for meter in meters),
            )
        )
    return made


def arrivals(random: Random, held: Sequence[Life]) -> list[Arrival]:
    """Most events come at once, some of them up to 34 days later, and some lie outside of the subscription."""
    made = []
    for number, life in enumerate(held):
        for _ in range(EVENTS_EACH):
            span = int((YEAR_END - life.start_at).total_seconds() * 1000)
            time = life.start_at + timedelta(milliseconds=random.randrange(-span // 20, span))
            late = timedelta(days=random.random() * LATE_AT_MOST_DAYS) if random.random() < 0.35 else timedelta()
            amount = D(random.randrange(1, 9000)) / 1000
            made.append(Arrival(time + late, number, time, amount, f"user-{random.randrange(6)}"))
    random.shuffle(made)
    return made


async def prepared(made: Books, held: Sequence[Life]) -> None:
    for number, life in enumerate(held):
        prices = [
            PlanPrice(id=f"pri_{number}_fee", key="fee", currency="EUR", price=FlatPrice(amount=decimal(life.fee)))
        ]
        prices += [
            PlanPrice(
                id=f"pri_{number}_{model.meter_id}",
                key=model.meter_id,
                currency="EUR",
                price=model.price,
                meter_id=model.meter_id,
            )
            for model in life.models
        ]
        of_its_own = replace(
            plan(), id=f"pla_y{number}", key=f"y{number}", version_id=f"plv_y{number}", prices=tuple(prices)
        )
        billing: BillingAnchor = "calendar" if life.calendar else "anniversary"
        async with transaction(made.engine) as conn:
            await create_plan(conn, SCOPE, of_its_own)
        subscription = await made.subscribe(life.name, life.start_at, billing=billing, to=of_its_own)
        if life.end_at is not None:
            await end(made, subscription, life.end_at)


def decimal(value: Fraction) -> Decimal:
    return D(value.numerator) / D(value.denominator)


def block(came: Sequence[Arrival], held: Sequence[Life], offset: int, cut: int) -> list[TestEvent]:
    return [
        TestEvent(
            id=f"event-{offset}-{index}",
            customer=held[one.life].name + ("-old" if index % 5 == 0 else ""),
            time=one.time,
            amount=one.amount,
            user=one.user,
            region="eu",
            partition=0,
            offset=offset,
            index=index,
            cut=cut,
        )
        for index, one in enumerate(came)
    ]


def periods(life: Life, until: datetime) -> list[tuple[datetime, datetime, Fraction]]:
    """Those that have ended, each with the part of a full one that it is."""
    full, found = life.start_at, list[tuple[datetime, datetime, Fraction]]()
    if life.calendar:
        full = month_later(life.start_at.replace(day=1, hour=0, minute=0, second=0))
        part = Fraction(seconds(full - life.start_at), seconds(full - month_later(full, -1)))
        found.append((life.start_at, full, part))
    while month_later(full) <= until and (life.end_at is None or month_later(full) <= life.end_at):
        found.append((full, month_later(full), Fraction(1)))
        full = month_later(full)
    return [one for one in found if life.end_at is None or one[1] <= life.end_at]


def truth(life: Life, came: Sequence[Arrival], until: datetime) -> Fraction:
    owed = Fraction(0)
    for start, stop, part in periods(life, until):
        inside = [one for one in came if start <= one.time < stop]
        quantities = {
            "met_count": Fraction(len(inside)),
            "met_sum": sum((Fraction(one.amount) for one in inside), Fraction(0)),
            "met_max": max((Fraction(one.amount) for one in inside), default=Fraction(0)),
            "met_unique_count": Fraction(len({one.user for one in inside})),
        }
        owed += rounded(life.fee * part)
        owed += sum((model.cost(quantities[model.meter_id], part) for model in life.models), Fraction(0))
    return owed


async def test_in_the_end_every_customer_has_paid_what_the_truth_comes_to(
    postgres_url: str, clickhouse_url: str
) -> None:
    random = Random(SEED)
    held = lives(random)
    left = arrivals(random, held)
    everything = list(left)
    async with books(postgres_url, clickhouse_url, "simulated_year") as made:
        await begin(made, YEAR)
        await prepared(made, held)
        now, cut, offset, looked = YEAR, 1, 0, 0
        until = YEAR_END + timedelta(days=75)
        while now < until:
            now += STEP
            came = [one for one in left if one.at <= now]
            left = [one for one in left if one.at > now]
            if came:
                offset += 1
                events = block(came, held, offset, cut)
                for _ in range(1 + offset % 2):  # every other block is sent twice
                    await made.count(events)
            await move_to(made, now)
            if (await made.activities().take_cutoff()).cutoff is not None:
                cut, closed = await close(made, now)
                assert closed.stopped == ()
                looked += (await look(made, now))[1]
        assert not left
        invoices = await made.invoices()
        lines = [line for invoice in invoices for line in invoice.lines if line.kind == "adjustment"]
        assert len(lines) > SUBSCRIPTIONS, "a year without late usage proves nothing"
        assert looked, "none of those that ended was adjusted"
        paid = dict.fromkeys((life.name for life in held), Fraction(0))
        for invoice in invoices:
            paid[invoice.subscription_id.removeprefix("sub_")] += Fraction(invoice.total)
        assert paid == {
            life.name: truth(life, [one for one in everything if one.life == number], now)
            for number, life in enumerate(held)
        }
        api = BooksApi(made)
        for invoice in random.sample(invoices, 6):
            status, body = await api.send("GET", f"/v1/invoices/{invoice.id}/recompute")
            assert (status, body["same"]) == (200, True), body
