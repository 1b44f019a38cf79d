"""What explains an invoice, read from PostgreSQL and ClickHouse at the invoice's cut. Nothing is written."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.explanations import check_windows, counted_lines, line_of, part_of_line, readable_window
from schemas.explanations import BilledEvents, LineUsage
from schemas.invoices import InvoiceLine
from schemas.scope import Scope
from schemas.usage import Usage, UsageQuery
from stores.clickhouse.billed_events import billed_events
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.usage import UsageStore
from stores.postgres.engine import transaction
from stores.postgres.invoice_basis import InvoiceBasis, invoice_basis

# One statement a meter and period: so many of one explanation at once.
_AT_ONCE = 4


async def read_basis(engine: AsyncEngine, scope: Scope, reference: str) -> InvoiceBasis:
    """Raises NotFound `invoice_not_found`, `Unavailable`."""
    async with transaction(engine) as conn:
        return await invoice_basis(conn, scope, reference)


async def read_line_usage(
    clickhouse: ClickhouseClient, scope: Scope, basis: InvoiceBasis, *, line_id: str | None, window: str | None
) -> dict[str, LineUsage]:
    """By the id of the line, of all lines or of one: its meter's windows and value in its period, with the names, the
    generation and the cut that it was billed with.

    `window` as for usage, cut in the zone of the invoice; without one it is as fine as can be read. Raises NotFound
    `line_not_found`, Invalid `too_many_windows`, `window_unknown`, and `Unavailable`.
    """
    lines = counted_lines(basis.invoice, line_id)
    if window is not None:
        check_windows(lines, window, basis.timezone)
    # Lines of one meter and period show the same windows.
    queries = {line.id: _query(scope, basis, line, window, len(lines)) for line in lines}
    distinct = {_key(query): query for query in queries.values()}
    found = dict(zip(distinct, await _read(clickhouse, list(distinct.values())), strict=True))
    return {line_id: _usage(query, found[_key(query)]) for line_id, query in queries.items()}


async def read_line_events(
    clickhouse: ClickhouseClient,
    scope: Scope,
    basis: InvoiceBasis,
    *,
    line_id: str,
    start: datetime | None,
    end: datetime | None,
    limit: int,
    cursor: str | None,
) -> BilledEvents:
    """A page of the events that the line counts in `[start, end)` of its period, newest first.

    Raises NotFound `line_not_found`, Invalid `line_not_metered`, `range_empty`, `cursor_invalid`, and `Unavailable`.
    """
    line = line_of(basis.invoice, line_id)
    first, last = part_of_line(line, start, end)
    meter_id, generation = line.meter_id or "", basis.generations[line.id]
    items, following = await billed_events(
        clickhouse,
        scope,
        meter_id=meter_id,
        generation=generation,
        references=basis.references,
        start=first,
        end=last,
        cut=basis.invoice.cut,
        limit=limit,
        cursor=cursor,
    )
    return BilledEvents(
        items=items,
        next_cursor=following,
        line_id=line.id,
        meter_id=meter_id,
        generation=generation,
        cut=basis.invoice.cut,
        as_of=basis.invoice.as_of,
    )


def _query(scope: Scope, basis: InvoiceBasis, line: InvoiceLine, window: str | None, lines: int) -> UsageQuery:
    start, end = line.period_start, line.period_end
    return UsageQuery(
        tenant=scope.tenant,
        environment=scope.environment,
        meter=replace(basis.meters[line.meter_id or ""], generation=basis.generations[line.id]),
        references=basis.references,
        start=start,
        end=end,
        window=window or readable_window(start, end, lines),
        timezone=basis.timezone,
        cut=basis.invoice.cut,
    )


def _key(query: UsageQuery) -> tuple[str, int, datetime, datetime]:
    return query.meter.id, query.meter.generation, query.start, query.end


async def _read(clickhouse: ClickhouseClient, queries: Sequence[UsageQuery]) -> list[Usage]:
    store, free = UsageStore(clickhouse), asyncio.Semaphore(_AT_ONCE)

    async def read(query: UsageQuery) -> Usage:
        async with free:
            return await store.usage(query)

    return list(await asyncio.gather(*map(read, queries)))


def _usage(query: UsageQuery, read: Usage) -> LineUsage:
    return LineUsage(
        generation=query.meter.generation,
        window=query.window,
        windows=tuple((row.window_start, row.window_end, row.value) for row in read.rows),
        total=read.total,
    )
