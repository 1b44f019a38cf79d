"""Usage that came after its period was billed, found and read for many subscriptions at once. Nothing is written."""

from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.late_usage import changed, late_ranges, late_starts, sold_besides, spans_to_read
from schemas.billing import BilledMeter, Contracts, Counted
from schemas.late_usage import LateMeter, LateUsage
from schemas.meters import Meter
from schemas.scope import Scope
from schemas.usage import UsageRange
from stores.billing import read_usage, read_windows
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.usage_many import late_hours_of_many
from stores.postgres.closings import meters_by_id
from stores.postgres.engine import transaction
from stores.postgres.late_usage import billed_usage, closed_spans
from stores.postgres.prices import billed_prices

NOTHING = LateUsage()


async def find_late(
    engine: AsyncEngine, clickhouse: ClickhouseClient, contracts: Contracts, subscription_ids: Sequence[str], cut: int
) -> LateUsage:
    """What of the billed periods of these subscriptions may come to something else at `cut`, and the ranges that tell.

    One question to PostgreSQL where nothing was billed before, and one to ClickHouse, for keys alone, where something was:
    only what has late usage is read further. Raises `Unavailable`.
    """
    async with transaction(engine) as conn:
        spans = await closed_spans(conn, subscription_ids)
    if not spans:
        return NOTHING
    since = [span.cut for span in spans]
    hours = await late_hours_of_many(clickhouse, spans_to_read(contracts, spans), since, cut)
    starts = late_starts(contracts, spans, hours)
    if not starts:
        return NOTHING
    async with transaction(engine) as conn:
        billed = changed(contracts, spans, hours, await billed_usage(conn, starts))
        lines = [one for some in billed.values() for one in some]
        besides = {name: sold for one in billed for name, sold in sold_besides(contracts.held[one]).items()}
        return LateUsage(
            billed=billed,
            ranges=late_ranges(contracts, billed),
            prices={**besides, **await billed_prices(conn, [one.price_id for one in lines])},
            meters=await meters_by_id(conn, sorted({one.meter_id for one in lines})),
        )


async def read_with_late(
    clickhouse: ClickhouseClient,
    meters: Mapping[str, Meter],
    ranges: Mapping[Scope, Mapping[BilledMeter, UsageRange]],
    late: LateUsage,
    cut: int,
    *,
    recounted: bool = True,
) -> tuple[dict[BilledMeter, Counted], dict[LateMeter, Counted]]:
    """The usage of periods that are due, and that of billed ones with late usage: in the same statements, whatever their
    number. Not `recounted`: from the windows alone. Raises `Unavailable`.
    """
    wanted: dict[Scope, dict[BilledMeter | LateMeter, UsageRange]] = {}
    for scope, due in ranges.items():
        wanted.setdefault(scope, {}).update(due.items())
    for scope, billed in late.ranges.items():
        wanted.setdefault(scope, {}).update(billed.items())
    read = read_usage if recounted else read_windows
    usage = await read(clickhouse, {**late.meters, **meters}, wanted, cut)
    return (
        {place: counted for place, counted in usage.items() if isinstance(place, BilledMeter)},
        {place: counted for place, counted in usage.items() if isinstance(place, LateMeter)},
    )
