"""Backtests: what a past range would have come to under other prices. Nothing of it is stored."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from msgspec import Meta, Struct, field

from schemas.periods import CadenceUnit
from schemas.prices import PlanPrice, PlanPriceSpec, RatedStep

LARGEST_CUT = (1 << 63) - 1


class BacktestRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Billing periods that end after `from` and not after `to`, of `customers` or of all `holders_of` a plan.

    The other prices are `prices` in `currency`, or those of a `version` (number or id; default: the one that is sold now)
    of `plan`. `at` is a cut; default: the newest complete one.
    """

    start: datetime = field(name="from")
    end: datetime = field(name="to")
    customers: tuple[str, ...] | None = None
    holders_of: str | None = None
    currency: str | None = None
    prices: tuple[PlanPriceSpec, ...] | None = None
    plan: str | None = None
    version: int | str | None = None
    at: Annotated[int, Meta(ge=1, le=LARGEST_CUT)] | None = None


class OtherPrices(Struct, frozen=True, kw_only=True):
    """What is compared with. `cadence` None: prices alone, billed at the cadence of whatever plan is held."""

    currency: str
    cadence: CadenceUnit | None
    prices: tuple[PlanPrice, ...]


class BacktestLine(Struct, frozen=True, kw_only=True):
    """A line as an invoice would have it. `amount` is `exact_amount` rounded once."""

    kind: str
    price_key: str
    description: str
    meter_id: str | None
    quantity: Decimal
    exact_amount: Decimal
    amount: Decimal
    steps: tuple[RatedStep, ...]


class Difference(Struct, frozen=True, kw_only=True):
    """`difference` is `other` less `present`: above zero, the other prices bring more."""

    present: Decimal
    other: Decimal
    difference: Decimal


class BacktestPeriod(Struct, frozen=True, kw_only=True):
    """One billing period under the prices of the plan that is held, and under the others."""

    subscription_id: str
    plan_version_id: str
    start: datetime
    end: datetime
    total: Difference
    present_lines: tuple[BacktestLine, ...]
    other_lines: tuple[BacktestLine, ...]


class BacktestRefusal(Struct, frozen=True, kw_only=True):
    """A subscription, or the rest of its periods, that could not be compared; `code` is stable."""

    subscription_id: str
    code: str
    message: str


class BacktestCustomer(Struct, frozen=True, kw_only=True):
    customer_id: str
    total: Difference
    periods: tuple[BacktestPeriod, ...]
    refused: tuple[BacktestRefusal, ...] = ()


class Backtest(Struct, frozen=True, kw_only=True):
    """By customer, in the order of their ids. Usage is that of the cut `cut`, which holds every event answered 202 before
    `as_of`; periods that end after `as_of` are left out, so `to` may be earlier than asked for.
    """

    start: datetime = field(name="from")
    end: datetime = field(name="to")
    cut: int
    as_of: datetime
    currency: str
    total: Difference
    customers: tuple[BacktestCustomer, ...]
