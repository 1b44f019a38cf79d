"""What every usage query asks of the rows that it reads: whose they are, up to which cut, when, and of which dimensions."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from domain.errors import Invalid
from schemas.meters import Meter
from schemas.usage import TimeWindow, UsageQuery
from stores.clickhouse.aggregates import epoch_ms

MAX_ROWS = 50_000
# What the tables' minutes can say; a range is clipped to it, since no event can lie outside.
FIRST_MS = 0
LAST_MS = epoch_ms(datetime(2106, 1, 1, tzinfo=UTC))

Parameters = dict[str, Any]
# `[start, end)` in milliseconds of the epoch.
Span = tuple[int, int]


def clipped(start: datetime, end: datetime) -> Span:
    """What the tables can say of a range; empty where it lies outside of time."""
    return max(epoch_ms(start), FIRST_MS), min(epoch_ms(end), LAST_MS)


def bound_of(at: datetime) -> int:
    """The second in which a window begins, as the tables can say it."""
    return min(max(epoch_ms(at), FIRST_MS), LAST_MS) // 1000


def bounds_of(windows: Sequence[TimeWindow]) -> list[int]:
    """The seconds at which any of the windows begins or ends, ascending: between two of them is a bucket."""
    return sorted({bound_of(at) for window in windows for at in (window.start, window.end)})


def meter_conditions(query: UsageQuery, parameters: Parameters) -> list[str]:
    """Of rows of `usage_windows`, and of `events` joined with their matches `m`: tenant, customer and cut."""
    parameters |= {
        "tenant": query.tenant,
        "environment": query.environment,
        "meter": query.meter.id,
        "generation": query.meter.generation,
    }
    conditions = ["tenant = {tenant:String}", "environment = {environment:String}"]
    if query.references is not None:
        parameters["references"] = list(query.references)
        conditions.append("customer IN {references:Array(String)}")
    if query.cut is not None:
        parameters["cut"] = query.cut
        conditions.append("cut < {cut:UInt64}")
    return conditions


def of_windows(query: UsageQuery, parameters: Parameters, first: int, last: int) -> list[str]:
    """Of rows `w` of `usage_windows`: the meter's minutes of `[first, last)`, epoch seconds."""
    parameters |= {"first": first, "last": last}
    return [
        *meter_conditions(query, parameters),
        "meter = {meter:String}",
        "generation = {generation:UInt32}",
        "minute >= toDateTime({first:UInt32}, 'UTC')",
        "minute < toDateTime({last:UInt32}, 'UTC')",
        *_filters(query, "w.dimensions", parameters),
    ]


def of_events(query: UsageQuery, parameters: Parameters, spans: Sequence[Span], name: str = "edge") -> list[str]:
    """Of `events` joined with their matches `m`: the meter's matches within the spans."""
    parts = []
    for place, (start, end) in enumerate(spans):
        parameters |= {f"{name}_start_{place}": start, f"{name}_end_{place}": end}
        parts.append(
            f"(time >= fromUnixTimestamp64Milli({{{name}_start_{place}:Int64}}, 'UTC') "
            f"AND time < fromUnixTimestamp64Milli({{{name}_end_{place}:Int64}}, 'UTC'))"
        )
    return [
        *meter_conditions(query, parameters),
        "m.meter = {meter:String}",
        "m.generation = {generation:UInt32}",
        f"({' OR '.join(parts)})",
        *_filters(query, "m.dimensions", parameters),
    ]


def place_of(meter: Meter, dimension: str) -> int:
    """Where the dimension stands; ClickHouse's arrays begin at 1. Raises Invalid `dimension_unknown`."""
    if dimension not in meter.dimensions:
        known = ", ".join(meter.dimensions) or "none"
        raise Invalid("dimension_unknown", f"{dimension!r} is no dimension of the meter {meter.key!r} (it has {known})")
    return meter.dimensions.index(dimension) + 1


def grouped(query: UsageQuery, column: str) -> list[str]:
    """The values of the dimensions that are grouped by, out of `column`; they are called `group_0`, `group_1`, ..."""
    return [f"{column}[{place_of(query.meter, name)}] AS group_{n}" for n, name in enumerate(query.group_by)]


def group_names(query: UsageQuery) -> list[str]:
    return [f"group_{n}" for n in range(len(query.group_by))]


def too_many_rows() -> Invalid:
    return Invalid(
        "too_many_rows", f"the answer holds more than {MAX_ROWS} rows: ask for fewer groups or longer windows"
    )


def _filters(query: UsageQuery, column: str, parameters: Parameters) -> list[str]:
    conditions = []
    for place, values in ((place_of(query.meter, name), values) for name, values in sorted(query.filters.items())):
        parameters[f"filter_{place}"] = list(values)
        conditions.append(f"{column}[{place}] IN {{filter_{place}:Array(String)}}")
    return conditions
