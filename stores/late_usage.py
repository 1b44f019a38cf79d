"""Usage that came after its period was billed, found and read for many subscriptions at once. Nothing is written."""

import asyncio
from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.late_usage import changed, late_ranges, late_starts, sold_besides, spans_to_read
from schemas.billing import BilledMeter, Contracts, Counted
from schemas.late_usage import LateMeter, LateUsage
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


async def read_late(clickhouse: ClickhouseClient, late: LateUsage, cut: int) -> dict[LateMeter, Counted]:
    """The usage of what has to be rated again: in statements of its own, which read those customers alone. Raises
    `Unavailable`.
    """
    return await read_usage(clickhouse, late.meters, late.ranges, cut) if late.ranges else {}


async def read_with_late(
    engine: AsyncEngine,
    clickhouse: ClickhouseClient,
    contracts: Contracts,
    ranges: Mapping[Scope, Mapping[BilledMeter, UsageRange]],
    cut: int,
    *,
    recounted: bool = True,
) -> tuple[dict[BilledMeter, Counted], LateUsage, dict[LateMeter, Counted]]:
    """The usage of `ranges`, and beside it what late usage of the same subscriptions there is, with that.

    Not `recounted`: from the windows alone. Raises `Unavailable`.
    """
    read = read_usage if recounted else read_windows
    due = asyncio.create_task(read(clickhouse, contracts.meters, ranges, cut))
    try:
        late = await find_late(engine, clickhouse, contracts, list(contracts.held), cut)
        return await due, late, await read_late(clickhouse, late, cut)
    finally:
        due.cancel()  # after a failure nobody waits for it
