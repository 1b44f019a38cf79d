"""Everything that decides invoices, read from PostgreSQL and ClickHouse. Nothing is written."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Protocol, TypeVar

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from domain.billed_parts import meters_sold
from domain.billing import counted_by, period_ranges, recomputed
from domain.recomputed_adjustments import adjusted_ranges, own_part, with_adjustments
from domain.subscriptions.fold import fold
from domain.subscriptions.holding import paid_since
from schemas.billing import Contracts, Counted, Recomputation
from schemas.closing import ClosableSubscription, DuePeriod
from schemas.invoices import KeptInvoice
from schemas.meters import Meter
from schemas.scope import Scope
from schemas.usage import UsageRange, UsageState
from stores.clickhouse.aggregates import columns_of, value_of
from stores.clickhouse.client import ClickhouseClient, TookTooLong
from stores.clickhouse.levels_many import levels_of_many, recounted_levels_of_many
from stores.clickhouse.usage_many import recount_of_many, usage_of_many
from stores.postgres.closings import closable_subscriptions, is_closing_invoice, meters_by_id
from stores.postgres.customers import customers_by_id
from stores.postgres.engine import transaction
from stores.postgres.invoices import counted_by_of, get_invoice, plan_version_of, terms_revision_of
from stores.postgres.plans import plan_versions_by_id
from stores.postgres.prices import billed_prices
from stores.postgres.sold import sold_of
from stores.postgres.subscription_history import history_of


class Metered(Protocol):
    """What a range is read for: a place that names a meter."""

    @property
    def meter_id(self) -> str: ...


P = TypeVar("P", bound=Metered)
_Ranges = Mapping[P, UsageRange]
_Wanted = Sequence[tuple[Scope, P, UsageRange]]
_Values = dict[P, Decimal | None]
_Side = Callable[
    [ClickhouseClient, Sequence[tuple[Scope, UsageRange]], int, Sequence[str]], Awaitable[list[UsageState]]
]


async def read_contracts(engine: AsyncEngine, subscription_ids: Sequence[str]) -> Contracts:
    """In one transaction. Raises `Unavailable`."""
    async with transaction(engine) as conn:
        found = await closable_subscriptions(conn, subscription_ids)
        return await _contracts(conn, found)


async def _contracts(conn: AsyncConnection, found: Mapping[str, ClosableSubscription]) -> Contracts:
    """What the subscriptions are billed from, as they are given."""
    lives = [one.life for one in found.values() if one.life is not None]
    sold = await sold_of(conn, lives)
    plans = await plan_versions_by_id(conn, sorted({one.plan_version_id for one in found.values()}))
    contracts = Contracts(
        held={name: one if one.life is None else replace(one, sold=sold) for name, one in found.items()},
        plans=plans,
        customers=await customers_by_id(conn, [one.customer_id for one in found.values()]),
        meters={},
    )
    meter_ids = {
        meter_id for one in contracts.held.values() for meter_id in meters_sold(one, plans[one.plan_version_id])
    }
    return replace(contracts, meters=await meters_by_id(conn, sorted(meter_ids)))


async def read_usage(
    clickhouse: ClickhouseClient,
    meters: Mapping[str, Meter],
    ranges: Mapping[Scope, _Ranges[P]],
    cut: int,
) -> dict[P, Counted]:
    """All usage of the ranges at cutoff `cut`: two statements side by side, whatever their number and tenants, and two
    more where there are levels. Percentiles are left out: they are never billed.

    Raises `Unavailable`; its kind TookTooLong where one range alone is more than the server reads in time.
    """
    wanted = _wanted(ranges)
    reads = [
        asyncio.create_task(_in_parts(side, clickhouse, meters, wanted, cut))
        for side in (usage_of_many, recount_of_many)
    ]
    try:
        values, recounts = await asyncio.gather(*reads)
    finally:
        for read in reads:  # after a failure nobody waits for the other
            read.cancel()
    return {billed: Counted(value=values[billed], recount=recounts[billed]) for billed in values}


async def read_windows(
    clickhouse: ClickhouseClient, meters: Mapping[str, Meter], ranges: Mapping[Scope, _Ranges[P]], cut: int
) -> dict[P, Counted]:
    """As `read_usage`, from the windows alone: for what is shown and never billed, so no recount verifies it."""
    wanted = _wanted(ranges)
    if not wanted:
        return {}
    values = await _in_parts(usage_of_many, clickhouse, meters, wanted, cut)
    return {billed: Counted(value=value, recount=value) for billed, value in values.items()}


def _wanted(ranges: Mapping[Scope, _Ranges[P]]) -> _Wanted[P]:
    return [(scope, billed, one) for scope, found in ranges.items() for billed, one in found.items()]


async def _in_parts(
    side: _Side, clickhouse: ClickhouseClient, meters: Mapping[str, Meter], wanted: _Wanted[P], cut: int
) -> _Values[P]:
    """In one statement; in two when that takes too long, and so on: how much is read is up to the customers.

    Raises TookTooLong where a single range does.
    """
    try:
        found = await _states(side, clickhouse, meters, wanted, cut)
    except TookTooLong:
        if len(wanted) == 1:
            raise
        middle = len(wanted) // 2
        values = await _in_parts(side, clickhouse, meters, wanted[:middle], cut)
        return values | await _in_parts(side, clickhouse, meters, wanted[middle:], cut)
    return {
        billed: value_of(found[place], meters[billed.meter_id].aggregation)
        for place, (_, billed, _) in enumerate(wanted)
        if place in found
    }


async def _states(
    side: _Side, clickhouse: ClickhouseClient, meters: Mapping[str, Meter], wanted: _Wanted[P], cut: int
) -> dict[int, UsageState]:
    """By their places in `wanted`. Levels are weighed by time, everything else is put together from what adds up."""
    merged: list[int] = []
    levels: list[int] = []
    for place, (_, billed, _) in enumerate(wanted):
        aggregation = meters[billed.meter_id].aggregation
        if aggregation != "percentile":
            (levels if aggregation == "weighted_sum" else merged).append(place)
    columns = columns_of({meters[wanted[place][1].meter_id].aggregation for place in merged})
    found = await side(clickhouse, [(wanted[place][0], wanted[place][2]) for place in merged], cut, columns)
    states = dict(zip(merged, found, strict=True))
    if levels:
        carried = [
            (scope, replace(one, carry=meters[billed.meter_id].carry))
            for scope, billed, one in (wanted[place] for place in levels)
        ]
        weighed = await (recounted_levels_of_many if side is recount_of_many else levels_of_many)(
            clickhouse, carried, cut
        )
        states |= zip(levels, weighed, strict=True)
    return states


async def recompute(engine: AsyncEngine, clickhouse: ClickhouseClient, scope: Scope, reference: str) -> Recomputation:
    """The invoice computed again: at its cut, with its prices, names and meters, from windows and from events.

    Raises NotFound `invoice_not_found`, `Unavailable`.
    """
    async with transaction(engine) as conn:
        invoice = await get_invoice(conn, scope, reference)
        kept = await counted_by_of(conn, invoice.id)
        is_closing = await is_closing_invoice(conn, invoice)
        sold = await billed_prices(conn, [line.price_id for line in invoice.lines if line.adjusts is not None])
        held = await _held_then(conn, invoice)
        contracts = await _contracts(conn, {held.id: held})
    held = contracts.held[held.id]
    plan = contracts.plans[held.plan_version_id]
    by = replace(kept, references=kept.references or counted_by(contracts, held).references)
    period = DuePeriod(subscription_id=held.id, start=invoice.period_start, end=invoice.period_end)
    ranges = {scope: period_ranges(held, plan, period, by)} if is_closing else {}
    usage = await read_usage(clickhouse, contracts.meters, ranges, invoice.cut)
    if not is_closing:
        plan, held = replace(plan, prices=()), replace(held, life=None)
    own = recomputed(own_part(invoice), held, plan, usage)
    late = {scope: adjusted_ranges(invoice, by.references)}
    async with transaction(engine) as conn:
        meters = await meters_by_id(conn, sorted({one.meter_id for one in late[scope]}))
    return with_adjustments(own, invoice, contracts, sold, await read_usage(clickhouse, meters, late, invoice.cut))


async def _held_then(conn: AsyncConnection, invoice: KeptInvoice) -> ClosableSubscription:
    """The subscription of the invoice with the terms that it was made with, whatever was changed since."""
    held = (await closable_subscriptions(conn, [invoice.subscription_id]))[invoice.subscription_id]
    revision = await terms_revision_of(conn, invoice.id)
    history = () if not revision else await history_of(conn, held.id, revision)
    if history:
        life = fold(history)
        start_at, version_id = paid_since(life), life.plans[0].plan_version_id
        return replace(held, start_at=start_at, plan_version_id=version_id, life=life)
    # Made before there were histories: it had one plan version, that of its lines.
    return replace(held, plan_version_id=await plan_version_of(conn, invoice.id) or held.plan_version_id, life=None)
