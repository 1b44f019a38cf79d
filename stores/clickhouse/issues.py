"""Events whose values a meter could not use: how many by code, and some of them, newest first."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from domain.events import decode_properties, encode_properties
from schemas.event_records import EventPosition
from schemas.scope import Scope
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.pages import POSITION, Conditions, in_utc, read_position

Properties = dict[str, Any]

_SHOWN_LENGTH = 1024


class IssueCount(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one code, and when the last of them was."""

    code: str
    count: int
    last_time: datetime


class IssueSample(msgspec.Struct, frozen=True, kw_only=True):
    """One event that the meter did not count. `value` is what was found, as text: JSON where it is none, cut off where it
    is long; None where nothing was there.
    """

    code: str
    generation: int
    id: str
    source: str
    customer: str
    time: datetime
    value: str | None
    position: EventPosition


class MeterIssues(msgspec.Struct, frozen=True, kw_only=True):
    counts: list[IssueCount]
    samples: list[IssueSample]


async def meter_issues(
    client: ClickhouseClient,
    scope: Scope,
    meter_id: str,
    value_of: Callable[[Properties], Any],
    *,
    start: datetime,
    end: datetime,
    limit: int,
    cut: int | None = None,
) -> MeterIssues:
    """Issues of events whose time lies in `[start, end)`; `value_of` reads the meter's value out of properties. `cut` C: of
    those that were known at cutoff C (protocol 10).
    """
    conditions = Conditions(scope)
    conditions.between("time", start, end)
    conditions.where += ["has(issues.meter, {meter:String})", "issue.meter = {meter:String}"]
    conditions.parameters["meter"] = meter_id
    if cut is not None:
        conditions.where.append("cut < {cut:UInt64}")
        conditions.parameters["cut"] = cut
    source = f"{client.reads('events')} ARRAY JOIN issues AS issue"
    counts = await client.rows(
        f"SELECT issue.code, count() AS found, max(time) FROM {source} WHERE {conditions.text} GROUP BY issue.code"
        " ORDER BY found DESC, issue.code",
        conditions.parameters,
    )
    rows = await client.rows(
        f"SELECT issue.code, issue.generation, id, source, customer, time, properties, {POSITION} FROM {source}"
        f" WHERE {conditions.text} ORDER BY time DESC, {POSITION.replace(',', ' DESC,')} DESC LIMIT {{limit:UInt32}}",
        {**conditions.parameters, "limit": limit},
    )
    return MeterIssues(
        counts=[IssueCount(code=row[0], count=row[1], last_time=in_utc(row[2])) for row in counts],
        samples=[
            IssueSample(
                code=row[0],
                generation=row[1],
                id=row[2],
                source=row[3],
                customer=row[4],
                time=in_utc(row[5]),
                value=_text(value_of(decode_properties(row[6]))),
                position=read_position(row[7:11]),
            )
            for row in rows
        ],
    )


def _text(value: Any) -> str | None:
    if value is None or type(value) is str:
        return value if value is None else value[:_SHOWN_LENGTH]
    return encode_properties(value).decode()[:_SHOWN_LENGTH]
