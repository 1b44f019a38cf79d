"""What explains an invoice, read from PostgreSQL and ClickHouse at the invoice's cut. Nothing is written."""

import asyncio
from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.explanations import check_windows, counted_lines, counted_spans, line_of, parts_within, readable_window
from schemas.billing import BilledMeter, Span
from schemas.explanations import BilledEvents, LineUsage
from schemas.invoices import InvoiceLine
from schemas.scope import Scope
from schemas.usage import UsageQuery, UsageRange
from stores.billing import read_windows
from stores.clickhouse.billed_events import billed_events
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.usage import UsageStore
from stores.postgres.engine import transaction
from stores.postgres.invoice_basis import InvoiceBasis, invoice_basis

# One statement a meter and span: so many of one explanation at once.
_AT_ONCE = 4


class _Asked(NamedTuple):
    """The spans of one line, in order, and the billing period that they lie in."""

    queries: tuple[UsageQuery, ...]
    period: Span


class Explained(Struct, frozen=True, kw_only=True):
    """An invoice with what it was made of. `spans` say by the id of a line when its usage was counted."""

    basis: InvoiceBasis
    spans: Mapping[str, tuple[Span, ...]]


async def read_explained(engine: AsyncEngine, scope: Scope, reference: str) -> Explained:
    """Raises NotFound `invoice_not_found`, `Unavailable`."""
    async with transaction(engine) as conn:
        basis = await invoice_basis(conn, scope, reference)
    return Explained(basis=basis, spans={line.id: counted_spans(line) for line in basis.invoice.lines})


async def read_line_usage(
    clickhouse: ClickhouseClient, scope: Scope, found: Explained, *, line_id: str | None, window: str | None
) -> dict[str, LineUsage]:
    """By the id of the line, of all lines or of one: its meter's windows and value in its period, with the names, the
    generation and the cut that it was billed with.

    `window` as for usage, cut in the zone of the invoice; without one it is as fine as can be read. Raises NotFound
    `line_not_found`, Invalid `too_many_windows`, `window_unknown`, and `Unavailable`.
    """
    lines = counted_lines(found.basis.invoice, line_id)
    if window is not None:
        check_windows([span for line in lines for span in found.spans[line.id]], window, found.basis.timezone)
    # Lines of one meter and the same spans show the same windows.
    asked = {line.id: _asked(scope, found, line, window, len(lines)) for line in lines}
    distinct = {_key(one): one for one in asked.values()}
    read = dict(zip(distinct, await _read(clickhouse, list(distinct.values())), strict=True))
    return {line_id: read[_key(one)] for line_id, one in asked.items()}


async def read_line_events(
    clickhouse: ClickhouseClient,
    scope: Scope,
    found: Explained,
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
    basis = found.basis
    line = line_of(basis.invoice, line_id)
    spans = parts_within(line, found.spans[line.id], start, end)
    meter_id, generation = line.meter_id or "", basis.generations[line.id]
    items, following = await billed_events(
        clickhouse,
        scope,
        meter_id=meter_id,
        generation=generation,
        references=basis.references,
        spans=spans,
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


def _asked(scope: Scope, found: Explained, line: InvoiceLine, window: str | None, lines: int) -> _Asked:
    basis = found.basis
    own = (basis.invoice.period_start, basis.invoice.period_end)
    query = UsageQuery(
        tenant=scope.tenant,
        environment=scope.environment,
        meter=replace(basis.meters[line.meter_id or ""], generation=basis.generations[line.id]),
        references=basis.references,
        start=line.period_start,
        end=line.period_end,
        window=window or readable_window(line.period_start, line.period_end, lines),
        timezone=basis.timezone,
        cut=basis.invoice.cut,
    )
    return _Asked(
        queries=tuple(replace(query, start=start, end=end) for start, end in found.spans[line.id]),
        period=own if line.adjusts is None else line.adjusts.whole or own,
    )


def _key(one: _Asked) -> Hashable:
    meter = one.queries[0].meter
    return meter.id, meter.generation, one.period, tuple((query.start, query.end) for query in one.queries)


async def _read(clickhouse: ClickhouseClient, asked: Sequence[_Asked]) -> list[LineUsage]:
    free = asyncio.Semaphore(_AT_ONCE)

    async def read(one: _Asked) -> LineUsage:
        queries = one.queries
        is_level = queries[0].meter.aggregation == "weighted_sum"
        async with free:
            parts = [await UsageStore(clickhouse).usage(query) for query in queries]
            total = parts[0].total if len(parts) == 1 and not is_level else await _together(clickhouse, one)
        return LineUsage(
            generation=queries[0].meter.generation,
            window=queries[0].window,
            windows=tuple((row.window_start, row.window_end, row.value) for part in parts for row in part.rows),
            total=total,
        )

    return list(await asyncio.gather(*map(read, asked)))


async def _together(clickhouse: ClickhouseClient, asked: _Asked) -> Decimal | None:
    """The value of all spans, which is not the sum of theirs: a user of two of them is one user, and a level is weighed
    over the whole period.
    """
    query = asked.queries[0]
    whole = UsageRange(
        meter_id=query.meter.id,
        generation=query.meter.generation,
        references=query.references or (),
        start=query.start,
        end=asked.queries[-1].end,
        spans=tuple((one.start, one.end) for one in asked.queries),
        period=asked.period,
    )
    place = BilledMeter("", query.start, query.meter.id)
    ranges = {Scope(query.tenant, query.environment): {place: whole}}
    found = await read_windows(clickhouse, {query.meter.id: query.meter}, ranges, query.cut or 0)
    return found[place].value
