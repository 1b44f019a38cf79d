"""What is asked about usage: query parameters, parsed and looked up; and the answer as it goes out."""

import csv
import io
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from litestar.di import Provide
from litestar.params import QueryParameter
from msgspec import Struct
from msgspec.structs import replace

from api.auth import Principal
from api.deps import ApiDeps
from documents.csv_lines import inert
from domain import instants
from domain.customers import references_of
from domain.errors import FieldError, Invalid, Unavailable
from domain.meter_rules import check_percent
from domain.quantities import format_quantity
from schemas.meters import Meter, Percent
from schemas.scope import Scope
from schemas.usage import Usage, UsageQuery, UsageRow
from stores.clickhouse.client import SERVICE, ClickhouseClient
from stores.postgres.customers import get_customer
from stores.postgres.engine import autocommit
from stores.postgres.meters import get_meter

DEFAULT_SPAN = timedelta(days=30)
MAX_GROUPS = 8
_LARGEST_CUT = (1 << 63) - 1

From = Annotated[str | None, QueryParameter(name="from", description="start, included; default 30 days before `to`")]
To = Annotated[str | None, QueryParameter(name="to", description="end, excluded; default now")]
At = Annotated[
    int | None,
    QueryParameter(name="at", ge=1, le=_LARGEST_CUT, description="a cut: what was known then (GET /v1/cuts)"),
]
Window = Annotated[
    str | None,
    QueryParameter(
        description="minute, hour, day, week, month, PT<n>M or PT<n>H; rolling:PT<n>M (the last n minutes, at each minute);"
        " session:PT<n>M (what comes within n minutes of each other); default the whole range"
    ),
]
AskedPercent = Annotated[
    Percent | None, QueryParameter(description="of a percentile; default the meter's own", name="percent")
]
GroupBy = Annotated[list[str] | None, QueryParameter(name="group_by", description="dimensions; repeated or by comma")]


class UsageParameters(Struct, frozen=True, kw_only=True):
    """The query string of `/v1/usage` and `/v1/usage/stream`, as sent."""

    meter: str
    customer: str | None = None
    start: str | None = None
    end: str | None = None
    window: str | None = None
    timezone: str = "UTC"
    group_by: Sequence[str] = ()
    at: int | None = None
    percent: Percent | None = None


def usage_parameters(
    *,
    meter: str,
    customer: str | None = None,
    start: From = None,
    end: To = None,
    window: Window = None,
    timezone: str = "UTC",
    group_by: GroupBy = None,
    at: At = None,
    percent: AskedPercent = None,
) -> UsageParameters:
    """For handlers that take `asked: UsageParameters`."""
    return UsageParameters(
        meter=meter,
        customer=customer,
        start=start,
        end=end,
        window=window,
        timezone=timezone,
        group_by=tuple(group_by or ()),
        at=at,
        percent=percent,
    )


# What a handler names to be given `asked`.
ASKED = {"asked": Provide(usage_parameters, sync_to_thread=False)}


class UsageItem(Struct, frozen=True, kw_only=True):
    """One window: `value` is a decimal, null where the aggregate of nothing has none."""

    window_start: datetime
    window_end: datetime
    value: str | None
    dimensions: dict[str, str | None]


class UsageAnswer(Struct, frozen=True, kw_only=True):
    """`total` is the aggregate over the range, not the sum of windows; every event accepted before `as_of` is in it.

    `cut` is the `at` that was asked for, null where the answer is of now.
    """

    items: list[UsageItem]
    total: str | None
    as_of: datetime
    cut: int | None = None


def scope_of(principal: Principal) -> Scope:
    return Scope(principal.tenant, principal.environment)


def clickhouse_of(deps: ApiDeps) -> ClickhouseClient:
    """The client of this process. Raises Unavailable where the process runs without one."""
    if deps.clickhouse is None:
        raise Unavailable(SERVICE, "this process has no connection to ClickHouse")
    return deps.clickhouse


def parse_instant(name: str, sent: str | None) -> datetime | None:
    """An RFC 3339 instant with a zone. Raises Invalid `invalid_instant`."""
    if sent is None:
        return None
    try:
        # An unescaped plus of an offset arrives as a space.
        return instants.parse_instant(name, sent.replace(" ", "+"))
    except Invalid as invalid:
        detail = FieldError(pointer=f"/{name}", code=invalid.code, message=invalid.message)
        raise Invalid(invalid.code, invalid.message, [detail]) from None


async def references_named(deps: ApiDeps, scope: Scope, customer: str | None) -> tuple[str, ...] | None:
    """All texts that events name the customer by; None for all customers. Raises NotFound `customer_not_found`."""
    if customer is None:
        return None
    async with autocommit(deps.engine) as conn:
        return tuple(references_of(await get_customer(conn, scope, customer)))


def span_before(end: datetime) -> datetime:
    """Where a range begins whose start is not given. Raises Invalid `range_too_long`."""
    try:
        return end - DEFAULT_SPAN
    except OverflowError:
        raise Invalid("range_too_long", "the range reaches beyond the calendar: give `from`") from None


async def usage_query(
    deps: ApiDeps, principal: Principal, sent: UsageParameters, *, default_end: datetime
) -> UsageQuery:
    """The query that was meant. Raises NotFound `meter_not_found`, `customer_not_found`, and Invalid.

    `to` is `default_end` and `from` is 30 days before it where they are not given.
    """
    scope = scope_of(principal)
    end = parse_instant("to", sent.end) or default_end
    start = parse_instant("from", sent.start) or span_before(end)
    groups = tuple(dict.fromkeys(name for part in sent.group_by for name in part.split(",") if name))
    if len(groups) > MAX_GROUPS:
        raise Invalid("too_many_groups", f"at most {MAX_GROUPS} dimensions can be grouped by")
    async with autocommit(deps.engine) as conn:
        meter: Meter = await get_meter(conn, scope, sent.meter)
    if sent.percent is not None:
        check_percent(meter.aggregation, "/percent")
        meter = replace(meter, percent=sent.percent)
    return UsageQuery(
        tenant=scope.tenant,
        environment=scope.environment,
        meter=meter,
        references=await references_named(deps, scope, sent.customer),
        start=start,
        end=end,
        window=sent.window or None,
        timezone=sent.timezone,
        group_by=groups,
        cut=sent.at,
    )


def item_of(row: UsageRow) -> UsageItem:
    return UsageItem(
        window_start=row.window_start,
        window_end=row.window_end,
        value=None if row.value is None else format_quantity(row.value),
        dimensions=dict(row.dimensions),
    )


def answer_of(usage: Usage, as_of: datetime, cut: int | None = None) -> UsageAnswer:
    return UsageAnswer(
        items=[item_of(row) for row in usage.rows],
        total=None if usage.total is None else format_quantity(usage.total),
        as_of=as_of,
        cut=cut,
    )


def csv_of(query: UsageQuery, answer: UsageAnswer) -> str:
    """The items with a header line; a missing value or dimension is an empty field. No dimension is a formula."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["window_start", "window_end", "value", *map(inert, query.group_by)])
    for item in answer.items:
        start, end = (msgspec.to_builtins(at) for at in (item.window_start, item.window_end))
        dimensions = (item.dimensions[name] for name in query.group_by)
        writer.writerow([start, end, item.value, *(None if one is None else inert(one) for one in dimensions)])
    return out.getvalue()
