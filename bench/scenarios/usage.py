"""`GET /v1/usage` over stored events, and what it costs to store more of them: both as the stored events grow tenfold.

The stored events are those of the 30 days before today, EACH of every customer, in the order of their times: more events
are more customers. A customer has TOGETHER events within a minute, and then none for a while: of ten events the windows
hold four rows. Merges in the background are waited for and never forced.
"""

import itertools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from urllib.parse import urlencode

import msgspec

from bench.events import ENVIRONMENT, TENANT
from bench.figures import Measured, percentile
from bench.load import connected, drive
from bench.merges import merged
from bench.rig import Rig
from bench.scenarios import cost
from bench.stored import clickhouse_of, fill_events
from runtime.clock import SystemClock
from schemas.meters import Meter
from schemas.usage import UsageQuery
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.usage import UsageStore

NAME = "usage"
DAYS = 30
DAY = timedelta(days=1)
EACH = 10_000  # events a customer
TOGETHER = 10  # of them in a minute
ASKED = 20  # customers that are asked for in turn
# Stored events for one event of the scale.
LEVELS = (10, 100)
PERCENTS = (50, 95)
_MINUTES = DAYS * 1440
# Between two minutes in which a customer has events.
_GAP_MINUTES = _MINUTES * TOGETHER // EACH
_MS = 1000


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of question; `named`: about one customer. Lasts `days` from the `since`th on."""

    label: str
    days: int
    since: int = 0
    window: str | None = None
    named: bool = True
    group_by: tuple[str, ...] = ()


QUESTIONS = (
    Question(label="one customer, a day by minute", days=1, since=15, window="minute"),
    Question(label="one customer, a month by day", days=DAYS, window="day"),
    # The customer is a dimension of the meter: one row for each, the greatest are the caller's to pick.
    Question(label="a month of every customer", days=DAYS, named=False, group_by=("account",)),
)


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What the questions are about. `references`: by customer all names of hers."""

    calls: Meter
    tokens: Meter
    start: datetime
    references: Mapping[str, tuple[str, ...]]


async def run(rig: Rig) -> list[Measured]:
    levels = LEVELS[:1] if rig.scale.quick else LEVELS
    return await at_levels(rig, [rig.scale.events * level for level in levels])


async def at_levels(rig: Rig, levels: Sequence[int]) -> list[Measured]:
    """All figures with each number of stored events, which ascend."""
    measured: list[Measured] = []
    async with clickhouse_of(rig.address) as client:
        stored = await prepare(rig, levels[0] // EACH)
        filled = 0
        for count in levels:
            await fill(client, stored, filled, count)
            await merged(client)
            for question in QUESTIONS:
                measured += await ask(rig, client, stored, question, count)
            measured += await cost.at(rig, client, count, lambda: merged(client))
            filled = count
    return measured


async def prepare(rig: Rig, customers: int) -> Stored:
    """Two meters, and the customers that will be asked for: some of those that every level has."""
    called = {"event_types": ["stored.call"], "key": "stored_calls", "aggregation": "count", "dimensions": ["account"]}
    summed = {"event_types": ["stored.call"], "key": "stored_tokens", "aggregation": "sum", "dimensions": ["model"]}
    calls = await rig.caller.call("POST", "/v1/meters", called)
    tokens = await rig.caller.call("POST", "/v1/meters", {**summed, "value_property": "tokens"})
    references = {}
    for number in range(min(customers, ASKED)):
        name = customer_name(number * max(customers // ASKED, 1))
        made = await rig.caller.call("POST", "/v1/customers", {"external_id": name})
        references[name] = (made["id"], name)
    midnight = SystemClock().now().replace(hour=0, minute=0, second=0, microsecond=0)
    return Stored(
        calls=msgspec.convert(calls, Meter),
        tokens=msgspec.convert(tokens, Meter),
        start=midnight - DAYS * DAY,
        references=references,
    )


def customer_name(number: int) -> str:
    return f"stored-{number}"


async def fill(client: ClickhouseClient, stored: Stored, filled: int, count: int) -> None:
    """Stores the events from the number `filled` up to `count`: those of the customers that come new, by time."""
    known, new = filled // EACH, (count - filled) // EACH
    place = f"(n - {filled})"
    busy = f"intDiv({place}, {TOGETHER})"  # counts the busy minutes of all customers
    customer = f"({busy} % {new})"
    minute = f"intDiv({busy}, {new}) * {_GAP_MINUTES} + {customer} % {_GAP_MINUTES}"
    at_s = f"{int(stored.start.timestamp())} + ({minute}) * 60 + {place} % {TOGETHER}"
    await fill_events(
        client,
        topic=NAME,
        calls=stored.calls.id,
        tokens=stored.tokens.id,
        first=filled,
        count=count - filled,
        customer=f"concat('stored-', toString({known} + {customer}))",
        at=f"fromUnixTimestamp64Milli(toInt64(({at_s}) * 1000), 'UTC')",
        log_day="toDate(happened_at)",
    )


async def ask(rig: Rig, client: ClickhouseClient, stored: Stored, question: Question, count: int) -> list[Measured]:
    """Over HTTP, one client; the ceiling is the store's own read of the same, without the API."""
    names = list(stored.references) if question.named else [None]
    requests = [rig.target.request("GET", path_of(stored, question, name)) for name in names]
    queries = itertools.cycle([query_of(stored, question, name) for name in names])
    store = UsageStore(client)
    await store.usage(next(queries))
    bare = await timed(lambda: store.usage(next(queries)), rig.scale.load_s)
    async with connected(rig.target, 1) as connections:
        await drive(connections, requests, expected=200)  # warm-up
        cycle = itertools.cycle(requests)
        repeats = range(rig.scale.repeats)
        loads = [await drive(connections, cycle, expected=200, within_s=rig.scale.load_s) for _ in repeats]
    return [
        Measured(
            scenario=NAME,
            figure=f"{count:,} stored events, {question.label}, p{percent}",
            unit="ms",
            values=tuple(load.latency_ms(percent) for load in loads),
            ceiling=percentile(bare, percent) * _MS,
        )
        for percent in PERCENTS
    ]


async def timed(call: Callable[[], Awaitable[object]], within_s: float) -> list[float]:
    """Seconds of each call, one after the other."""
    seconds: list[float] = []
    until = time.perf_counter() + within_s
    while not seconds or time.perf_counter() < until:
        begun = time.perf_counter()
        await call()
        seconds.append(time.perf_counter() - begun)
    return seconds


def path_of(stored: Stored, question: Question, name: str | None) -> str:
    start, end = span_of(stored, question)
    asked = {"meter": stored.calls.key, "from": start.isoformat(), "to": end.isoformat()}
    if name is not None:
        asked["customer"] = name
    if question.window is not None:
        asked["window"] = question.window
    if question.group_by:
        asked["group_by"] = ",".join(question.group_by)
    return f"/v1/usage?{urlencode(asked)}"


def query_of(stored: Stored, question: Question, name: str | None) -> UsageQuery:
    start, end = span_of(stored, question)
    return UsageQuery(
        tenant=TENANT,
        environment=ENVIRONMENT,
        meter=stored.calls,
        references=None if name is None else stored.references[name],
        start=start,
        end=end,
        window=question.window,
        timezone="UTC",
        group_by=question.group_by,
    )


def span_of(stored: Stored, question: Question) -> tuple[datetime, datetime]:
    start = stored.start + question.since * DAY
    return start, start + question.days * DAY
