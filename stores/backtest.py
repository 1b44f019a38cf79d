"""What a backtest is made of, read from PostgreSQL and ClickHouse. Nothing is written."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.backtest import (
    MAX_STEPS,
    MAX_SUBSCRIPTIONS,
    by_customer,
    check_comparable,
    check_size,
    compared,
    periods_ending,
    size_of,
    summed,
    under_other_prices,
)
from domain.billing import ranges_of
from domain.errors import Invalid, MeterstreamError
from schemas.backtests import Backtest, BacktestPeriod, BacktestRefusal, OtherPrices
from schemas.billing import BilledMeter, Contracts, Counted
from schemas.closing import DuePeriod
from schemas.scope import Scope
from schemas.usage import UsageRange
from stores.billing import read_contracts, read_windows
from stores.clickhouse.client import ClickhouseClient
from stores.postgres.closings import meters_by_id
from stores.postgres.engine import transaction

WITHIN_S = 20.0
PERIODS_A_TURN = 20
_Ranges = dict[Scope, dict[BilledMeter, UsageRange]]


async def backtest(
    engine: AsyncEngine,
    clickhouse: ClickhouseClient,
    subscription_ids: Sequence[str],
    other: OtherPrices,
    *,
    start: datetime,
    end: datetime,
    cut: int,
    as_of: datetime,
) -> Backtest:
    """Periods of the subscriptions that end after `start` and not after `end`, rated twice from the windows at `cut`.

    Raises Invalid `backtest_too_large`, also when it takes longer than `WITHIN_S`; `Unavailable`.
    """
    check_size(len(subscription_ids), MAX_SUBSCRIPTIONS, "subscriptions")
    try:
        async with asyncio.timeout(WITHIN_S):
            contracts = await _contracts(engine, subscription_ids, other)
            due, refused = _due(contracts, other, start, end)
            usage = await read_windows(clickhouse, contracts.meters, _ranges(contracts, due, other), cut)
            periods: list[BacktestPeriod] = []
            for some in due:
                rated, failed = await _compared(contracts, some, other, usage, cut)
                periods += rated
                refused += failed
    except TimeoutError:
        message = f"it took longer than {WITHIN_S:g} s: ask for fewer customers or a shorter range"
        raise Invalid("backtest_too_large", message) from None
    return Backtest(
        start=start,
        end=end,
        cut=cut,
        as_of=as_of,
        currency=other.currency,
        total=summed(period.total for period in periods),
        customers=by_customer(contracts, periods, refused),
    )


async def _compared(
    contracts: Contracts,
    periods: Sequence[DuePeriod],
    other: OtherPrices,
    usage: Mapping[BilledMeter, Counted],
    cut: int,
) -> tuple[list[BacktestPeriod], list[BacktestRefusal]]:
    """`compared`, some periods at a time: rating is work of this process, and others take turns."""
    found: list[BacktestPeriod] = []
    for first in range(0, len(periods), PERIODS_A_TURN):
        rated, refused = compared(contracts, periods[first : first + PERIODS_A_TURN], other, usage, cut)
        found += rated
        if refused:
            return found, refused
        await asyncio.sleep(0)
    return found, []


async def _contracts(engine: AsyncEngine, subscription_ids: Sequence[str], other: OtherPrices) -> Contracts:
    """Those of the subscriptions, with the meters of the other prices."""
    contracts = await read_contracts(engine, subscription_ids)
    async with transaction(engine) as conn:
        more = await meters_by_id(conn, [price.meter_id for price in other.prices if price.meter_id is not None])
    return replace(contracts, meters={**contracts.meters, **more})


def _due(
    contracts: Contracts, other: OtherPrices, start: datetime, end: datetime
) -> tuple[list[list[DuePeriod]], list[BacktestRefusal]]:
    """The periods of each subscription that has any and can be compared, and why others cannot."""
    due: list[list[DuePeriod]] = []
    refused: list[BacktestRefusal] = []
    steps = 0
    for held in sorted(contracts.held.values(), key=lambda one: (one.customer_id, one.id)):
        plan = contracts.plans[held.plan_version_id]
        try:
            check_comparable(plan, other)
            periods = periods_ending(held, start, end, MAX_STEPS)
        except MeterstreamError as error:
            refused.append(BacktestRefusal(subscription_id=held.id, code=error.code, message=error.message))
            continue
        # A period without a price is work as well.
        steps += len(periods) * max(1, size_of(plan.prices) + size_of(other.prices))
        check_size(steps, MAX_STEPS, "prices of periods")
        if periods:
            due.append(periods)
    return due, refused


def _ranges(contracts: Contracts, due: Sequence[Sequence[DuePeriod]], other: OtherPrices) -> _Ranges:
    """The usage that both sides need."""
    ranges: _Ranges = {}
    for periods in due:
        held = contracts.held[periods[0].subscription_id]
        for side in (contracts, under_other_prices(contracts, held, other)):
            for scope, found in ranges_of(side, periods).items():
                ranges.setdefault(scope, {}).update(found)
    return ranges
