"""Usage that came after its period was billed: what was billed so far, and what an adjustment says about it."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from msgspec import Struct

from schemas.meters import Meter
from schemas.periods import CadenceUnit
from schemas.prices import PlanPrice
from schemas.scope import Scope
from schemas.usage import UsageRange


class LateMeter(NamedTuple):
    """One meter of one billed span of a subscription."""

    subscription_id: str
    start: datetime
    end: datetime
    meter_id: str
    generation: int
    spans: tuple[tuple[datetime, datetime], ...] = ()


class SoldPrice(Struct, frozen=True, kw_only=True):
    """A price with the cadence of what it was sold in."""

    price: PlanPrice
    cadence: CadenceUnit


class ClosedSpan(Struct, frozen=True, kw_only=True):
    """The billed periods of a subscription that late events may still change, of one meter.

    Everything in them below `cut` was looked at when the subscription was last closed or looked at; `names` are those
    that its usage was counted by then, None where they were not kept.
    """

    scope: Scope
    subscription_id: str
    meter_id: str
    generation: int
    start: datetime
    end: datetime
    cut: int
    names: tuple[str, ...] | None


class BilledUsage(Struct, frozen=True, kw_only=True):
    """One price of one billed span of the billing period `whole`. `quantity` is what it is billed for by now, adjustments included, as it was read at
    `cut` by `names`; `adjusted` is how often the span was adjusted.
    """

    subscription_id: str
    invoice_id: str
    price_id: str
    price_key: str
    description: str
    meter_id: str
    generation: int
    period_start: datetime
    period_end: datetime
    quantity: Decimal
    cut: int
    names: tuple[str, ...] | None
    adjusted: int
    whole: tuple[datetime, datetime] | None = None
    spans: tuple[tuple[datetime, datetime], ...] = ()


class LateUsage(Struct, frozen=True, kw_only=True):
    """What has to be rated again: billed usage by subscription, the ranges to read for it, and the prices by their ids."""

    billed: Mapping[str, tuple[BilledUsage, ...]] = {}
    ranges: Mapping[Scope, Mapping[LateMeter, UsageRange]] = {}
    prices: Mapping[str, SoldPrice] = {}
    meters: Mapping[str, Meter] = {}


class LateLook(Struct, frozen=True, kw_only=True):
    """An ended subscription that is to be looked at again; `cut` is where it was looked at last. `is_last`: when this
    look is done, late events of it are accepted no more.
    """

    subscription_id: str
    cut: int
    is_last: bool


class LatePage(Struct, frozen=True, kw_only=True):
    """What looking at some ended subscriptions came to. `after` is the id of the last one."""

    looked: int = 0
    billed: int = 0
    stopped: int = 0
    after: str = ""
    is_last: bool = True
