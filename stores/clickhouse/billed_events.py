"""The events that a line of an invoice counts: those that its meter matched, by the names and at the cut it was made with."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from domain.quantities import plain_quantity
from schemas.explanations import BilledEvent
from schemas.scope import Scope
from stores.clickhouse.aggregates import epoch_ms
from stores.clickhouse.client import ClickhouseClient, Row
from stores.clickhouse.pages import POSITION, Conditions, in_utc, page_of_rows, read_position

# Where the meter's match stands among those of the event; 0 where it did not count the event.
_PLACE = (
    "arrayFirstIndex((m, g) -> m = {meter:String} AND g = {generation:UInt32}, matches.meter, matches.generation) "
    "AS place"
)
_COLUMNS = (
    f"{_PLACE}, id, source, type, customer, time, matches.value[place], matches.unique_key[place], "
    f"matches.dimensions[place], {POSITION}"
)


async def billed_events(
    client: ClickhouseClient,
    scope: Scope,
    *,
    meter_id: str,
    generation: int,
    references: Sequence[str],
    spans: Sequence[tuple[datetime, datetime]],
    cut: int,
    limit: int,
    cursor: str | None,
) -> tuple[list[BilledEvent], str | None]:
    """A page of the events of the spans `[start, end)`, newest first, and the cursor of the next; the same for ever (protocol 10).

    Raises Invalid `cursor_invalid`.
    """
    conditions = Conditions(scope)
    conditions.among("customer", "references", references)
    conditions.between("time", spans[0][0], spans[-1][1])
    conditions.where += ["cut < {cut:UInt64}", "place > 0", _in_spans(spans, conditions.parameters)]
    conditions.parameters |= {"cut": cut, "meter": meter_id, "generation": generation}
    rows, following = await page_of_rows(client, "events", _COLUMNS, "time", conditions, limit, cursor)
    return [_billed(row) for row in rows], following


def _in_spans(spans: Sequence[tuple[datetime, datetime]], parameters: dict[str, Any]) -> str:
    parameters["firsts"] = [epoch_ms(start) for start, _ in spans]
    parameters["lasts"] = [epoch_ms(end) for _, end in spans]
    inside = "toUnixTimestamp64Milli(time) >= first AND toUnixTimestamp64Milli(time) < last"
    return f"arrayExists((first, last) -> {inside}, {{firsts:Array(Int64)}}, {{lasts:Array(Int64)}})"


def _billed(row: Row) -> BilledEvent:
    _, event_id, source, event_type, customer, time, value, unique_key, dimensions = row[:9]
    return BilledEvent(
        id=event_id,
        source=source,
        type=event_type,
        customer=customer,
        time=in_utc(time),
        value=None if value is None else plain_quantity(value),
        unique_key=unique_key or None,
        dimensions=tuple(dimensions),
        position=read_position(row[9:13]),
    )
