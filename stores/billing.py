"""Everything that decides invoices, read from PostgreSQL and ClickHouse. Nothing is written."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Protocol, TypeVar

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.billing import counted_by, period_ranges, recomputed
from domain.errors import Unavailable
from domain.recomputed_adjustments import adjusted_ranges, own_part, with_adjustments
from schemas.billing import Contracts, Counted, Recomputation
from schemas.closing import DuePeriod
from schemas.meters import Meter
from schemas.scope import Scope
from schemas.usage import UsageRange, UsageState
from stores.clickhouse.aggregates import columns_of, value_of
from stores.clickhouse.client import ClickhouseClient, TookTooLong
from stores.clickhouse.usage_many import recount_of_many, usage_of_many
from stores.postgres.closings import closable_subscriptions, is_closing_invoice, meters_by_id
from stores.postgres.customers import customers_by_id
from stores.postgres.engine import transaction
from stores.postgres.invoices import counted_by_of, get_invoice, plan_version_of
from stores.postgres.plans import get_plan_version, plan_versions_by_id, plans_of_prices


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
        held = await closable_subscriptions(conn, subscription_ids)
        plans = await plan_versions_by_id(conn, sorted({one.plan_version_id for one in held.values()}))
        meter_ids = {price.meter_id for plan in plans.values() for price in plan.prices if price.meter_id is not None}
        return Contracts(
            held=held,
            plans=plans,
            customers=await customers_by_id(conn, [one.customer_id for one in held.values()]),
            meters=await meters_by_id(conn, sorted(meter_ids)),
        )


async def read_usage(
    clickhouse: ClickhouseClient,
    meters: Mapping[str, Meter],
    ranges: Mapping[Scope, _Ranges[P]],
    cut: int,
) -> dict[P, Counted]:
    """All usage of the ranges at cutoff `cut`: two statements side by side, whatever their number and tenants.

    Raises `Unavailable`.
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
    """`read_usage` without its recount, for what is shown and not billed. Raises `Unavailable`."""
    values = await _in_parts(usage_of_many, clickhouse, meters, _wanted(ranges), cut)
    return {billed: Counted(value=value, recount=value) for billed, value in values.items()}


def _wanted(ranges: Mapping[Scope, _Ranges[P]]) -> _Wanted[P]:
    return [(scope, billed, one) for scope, found in ranges.items() for billed, one in found.items()]


async def _in_parts(
    side: _Side, clickhouse: ClickhouseClient, meters: Mapping[str, Meter], wanted: _Wanted[P], cut: int
) -> _Values[P]:
    """In one statement; in two when that takes too long, and so on: how much is read is up to the customers."""
    columns = columns_of({meters[billed.meter_id].aggregation for _, billed, _ in wanted})
    try:
        found = await side(clickhouse, [(scope, one) for scope, _, one in wanted], cut, columns)
    except TookTooLong as error:
        if len(wanted) == 1:
            raise Unavailable(error.service, error.message) from error
        middle = len(wanted) // 2
        values = await _in_parts(side, clickhouse, meters, wanted[:middle], cut)
        return values | await _in_parts(side, clickhouse, meters, wanted[middle:], cut)
    return {
        billed: value_of(state, meters[billed.meter_id].aggregation)
        for (_, billed, _), state in zip(wanted, found, strict=True)
    }


async def recompute(engine: AsyncEngine, clickhouse: ClickhouseClient, scope: Scope, reference: str) -> Recomputation:
    """The invoice computed again: at its cut, with its prices, names and meters, from windows and from events.

    Raises NotFound `invoice_not_found`, `Unavailable`.
    """
    async with transaction(engine) as conn:
        invoice = await get_invoice(conn, scope, reference)
        version_id = await plan_version_of(conn, invoice.id)
        kept = await counted_by_of(conn, invoice.id)
        is_closing = await is_closing_invoice(conn, invoice)
        adjusted_by = await plans_of_prices(conn, [line.price_id for line in invoice.lines if line.adjusts is not None])
    contracts = await read_contracts(engine, [invoice.subscription_id])
    held = contracts.held[invoice.subscription_id]
    plan = contracts.plans[held.plan_version_id]
    meters = contracts.meters
    if version_id is not None and version_id != held.plan_version_id:
        # The subscription has another plan by now: this invoice was made with the one it had then.
        async with transaction(engine) as conn:
            plan = await get_plan_version(conn, scope, version_id)
            meters = await meters_by_id(conn, [one.meter_id for one in plan.prices if one.meter_id is not None])
        held = replace(held, plan_version_id=version_id, cadence=plan.cadence)
    now = counted_by(contracts, contracts.held[held.id])
    by = replace(kept, references=kept.references or now.references)
    period = DuePeriod(subscription_id=held.id, start=invoice.period_start, end=invoice.period_end)
    ranges = {scope: period_ranges(held, plan, period, by)}
    usage = await read_usage(clickhouse, meters, ranges, invoice.cut)
    own = recomputed(own_part(invoice), held, plan if is_closing else replace(plan, prices=()), usage)
    late = {scope: adjusted_ranges(invoice, by.references)}
    async with transaction(engine) as conn:
        adjusted_meters = await meters_by_id(conn, sorted({one.meter_id for one in late[scope]}))
    return with_adjustments(
        own, invoice, held, adjusted_by, await read_usage(clickhouse, adjusted_meters, late, invoice.cut)
    )
