"""From due periods to invoices: everything that decides them is read, and nothing is written."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.closing import bill_period, check_recount
from domain.errors import MeterstreamError, NotFound, Unavailable
from runtime.ids import Ids
from schemas.closing import ClosableSubscription, DuePeriod, FailedPeriod
from schemas.customers import Customer
from schemas.invoices import Invoice
from schemas.meters import Meter
from schemas.plans import Plan
from schemas.scope import Scope
from schemas.usage import UsageRange, UsageState
from stores.clickhouse.aggregates import value_of
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.usage_many import recount_of_many, usage_of_many
from stores.postgres.closings import closable_subscriptions, meters_by_id
from stores.postgres.customers import customers_by_id, references_of
from stores.postgres.engine import transaction
from stores.postgres.plans import get_plan_version

# Of one period and meter: (subscription id, period start, meter id).
_Place = tuple[str, datetime, str]


class Contracts(Struct, frozen=True, kw_only=True):
    """What PostgreSQL says about the subscriptions of a batch, by id; plans by the id of their version."""

    held: Mapping[str, ClosableSubscription]
    plans: Mapping[str, Plan]
    customers: Mapping[str, Customer]
    meters: Mapping[str, Meter]

    @property
    def generations(self) -> dict[str, int]:
        return {meter.id: meter.generation for meter in self.meters.values()}


class Counted(Struct, frozen=True, kw_only=True):
    """Usage of a meter in a period at the cutoff, from the windows and from raw events."""

    value: Decimal | None
    recount: Decimal | None


class Billing(Struct, frozen=True, kw_only=True):
    """Invoices of consecutive periods of one subscription, and why it goes no further."""

    held: ClosableSubscription
    invoices: tuple[Invoice, ...]
    failed: FailedPeriod | None


async def read_contracts(engine: AsyncEngine, subscription_ids: Sequence[str]) -> Contracts:
    """In one transaction. Raises `Unavailable`."""
    async with transaction(engine) as conn:
        held = await closable_subscriptions(conn, subscription_ids)
        sold = {(one.plan_version_id, one.scope) for one in held.values()}
        plans = {
            version_id: await get_plan_version(conn, scope, version_id) for version_id, scope in sorted(sold, key=str)
        }
        meter_ids = {price.meter_id for plan in plans.values() for price in plan.prices if price.meter_id is not None}
        return Contracts(
            held=held,
            plans=plans,
            customers=await customers_by_id(conn, [one.customer_id for one in held.values()]),
            meters=await meters_by_id(conn, sorted(meter_ids)),
        )


async def read_usage(
    clickhouse: ClickhouseClient, contracts: Contracts, periods: Sequence[DuePeriod], cut: int
) -> dict[_Place, Counted]:
    """All usage of the periods at cutoff `cut`: two statements a tenant and environment, whatever their number.

    Raises `Unavailable`.
    """
    counted: dict[_Place, Counted] = {}
    for scope, ranges in _ranges(contracts, periods).items():
        asked = list(ranges.values())
        counts = await usage_of_many(clickhouse, scope.tenant, scope.environment, asked, cut)
        recounts = await recount_of_many(clickhouse, scope.tenant, scope.environment, asked, cut)
        for place, count, recount in zip(ranges, counts, recounts, strict=True):
            counted[place] = _counted(contracts.meters[place[2]], count, recount)
    return counted


def bill(
    contracts: Contracts, periods: Sequence[DuePeriod], usage: Mapping[_Place, Counted], cut: int, ids: Ids
) -> Billing:
    """The invoices of `periods`, all of one subscription and in order, up to the first that cannot be billed."""
    held = contracts.held[periods[0].subscription_id]
    plan = contracts.plans[held.plan_version_id]
    made: list[Invoice] = []
    for period in periods:
        try:
            made.append(_invoice(held, plan, period, usage, cut, ids))
        except Unavailable:
            raise
        except MeterstreamError as error:
            return Billing(held=held, invoices=tuple(made), failed=failure_of(period, error))
    return Billing(held=held, invoices=tuple(made), failed=None)


def failure_of(period: DuePeriod, error: MeterstreamError) -> FailedPeriod:
    return FailedPeriod(
        subscription_id=period.subscription_id,
        start=period.start,
        end=period.end,
        code=error.code,
        message=error.message,
    )


def _invoice(
    held: ClosableSubscription,
    plan: Plan,
    period: DuePeriod,
    usage: Mapping[_Place, Counted],
    cut: int,
    ids: Ids,
) -> Invoice:
    values: dict[str, Decimal | None] = {}
    for meter_id in _meter_ids(plan):
        counted = usage.get((held.id, period.start, meter_id))
        if counted is None:
            raise NotFound("meter_not_found", f"a price of the plan {plan.key} refers to the unknown meter {meter_id}")
        check_recount(meter_id, counted.value, counted.recount)
        values[meter_id] = counted.value
    return bill_period(
        invoice_id=ids.new("inv"),
        line_ids=[ids.new("lin") for _ in plan.prices],
        held=held,
        plan=plan,
        period=period,
        cut=cut,
        usage=values,
    )


def _meter_ids(plan: Plan) -> list[str]:
    return list(dict.fromkeys(price.meter_id for price in plan.prices if price.meter_id is not None))


def _ranges(contracts: Contracts, periods: Sequence[DuePeriod]) -> dict[Scope, dict[_Place, UsageRange]]:
    ranges: dict[Scope, dict[_Place, UsageRange]] = {}
    for period in periods:
        held = contracts.held[period.subscription_id]
        references = tuple(references_of(contracts.customers[held.customer_id]))
        for meter_id in _meter_ids(contracts.plans[held.plan_version_id]):
            meter = contracts.meters.get(meter_id)
            if meter is not None:
                ranges.setdefault(held.scope, {})[held.id, period.start, meter_id] = UsageRange(
                    meter_id=meter_id,
                    generation=meter.generation,
                    references=references,
                    start=period.start,
                    end=period.end,
                )
    return ranges


def _counted(meter: Meter, count: UsageState, recount: UsageState) -> Counted:
    return Counted(value=value_of(count, meter.aggregation), recount=value_of(recount, meter.aggregation))
