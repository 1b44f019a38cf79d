"""Closings: invoices a second from due to issued, by the real worker on Temporal, with usage lines checked afterwards.

Customers, subscriptions and their usage are written straight to the stores; every subscription begins and ends at seconds
of its own, so that its usage comes from windows and from the events at both ragged edges.
"""

import time
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, LiteralString
from uuid import uuid4

import msgspec
import psycopg
from psycopg import sql

from bench.events import ENVIRONMENT, TENANT
from bench.figures import Measured
from bench.load import BenchError
from bench.rig import Rig
from bench.stored import clickhouse_of, fill_events
from runtime.clock import SystemClock
from runtime.settings import TemporalSettings
from schemas.closing import ClosingProgress
from stores.clickhouse.client import ClickhouseClient
from workflows.closing import CloseDuePeriods
from workflows.worker import connect

NAME = "closing"
EVENTS_EACH = 20
# One subscription due for so many events of the scale.
EVENTS_A_SUBSCRIPTION = 100
MORE = 10
BATCH = 100  # invoices a transaction of the ceiling

CUSTOMERS = """
    INSERT INTO customers (id, tenant, environment, external_id, known_in)
    SELECT 'cus_' || %(run)s || n, %(tenant)s, %(environment)s, %(run)s || n, 0 FROM generate_series(0, %(count)s - 1) AS n
"""
REFERENCES = """
    INSERT INTO customer_references (tenant, environment, reference, customer_id, kind)
    SELECT tenant, environment, named.reference, id, named.kind
    FROM customers, LATERAL (VALUES (id, 'id'), (external_id, 'external_id')) AS named (reference, kind)
    WHERE id LIKE 'cus_' || %(run)s || '%%'
"""
SUBSCRIPTIONS = """
    INSERT INTO subscriptions (id, tenant, environment, customer_id, plan_version_id, status, timezone, start_at,
        anchor_at, closed_to, next_close_at)
    SELECT 'sub_' || %(run)s || n, %(tenant)s, %(environment)s, 'cus_' || %(run)s || n, %(plan)s, 'active', 'UTC',
        at, at, at, at + interval '1 month'
    FROM generate_series(0, %(count)s - 1) AS n, LATERAL (SELECT %(start)s + n * interval '1 second' AS at) AS begun
"""
ISSUED = """
    SELECT count(DISTINCT invoice.id), coalesce(sum(line.quantity) FILTER (WHERE line.meter_id IS NOT NULL), 0),
        count(line.id)
    FROM invoices AS invoice JOIN invoice_lines AS line ON line.invoice_id = invoice.id
    WHERE invoice.subscription_id LIKE 'sub_' || %(run)s || '%%'
"""
# The rows that a closing writes, table by table, and how those of some subscriptions are found.
WRITTEN: dict[str, LiteralString] = {
    "invoices": "subscription_id = ANY(%(some)s)",
    "invoice_lines": "invoice_id IN (SELECT id FROM invoices WHERE subscription_id = ANY(%(some)s))",
    "billed_periods": "subscription_id = ANY(%(some)s)",
}


class Sold(msgspec.Struct, frozen=True, kw_only=True):
    plan_version: str
    calls: str
    tokens: str


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    run: str
    per_second: float


async def run(rig: Rig) -> list[Measured]:
    some = rig.scale.events // EVENTS_A_SUBSCRIPTION
    sold = await sell(rig)
    async with clickhouse_of(rig.address) as clickhouse:
        await close(rig, clickhouse, sold, some // MORE)  # warm-up
        few = [await close(rig, clickhouse, sold, some) for _ in range(rig.scale.repeats)]
        # Once, and not in the quick form: that it is as fast with more is seen in a minute.
        many = [] if rig.scale.quick else [await close(rig, clickhouse, sold, some * MORE)]
    ceiling = bare_writes(rig, few[-1].run, some)
    return [
        Measured(
            scenario=NAME,
            figure=f"{count:,} due subscriptions",
            unit="invoices/s",
            values=tuple(one.per_second for one in closed),
            ceiling=ceiling,
        )
        for count, closed in ((some, few), (some * MORE, many))
        if closed
    ]


async def sell(rig: Rig) -> Sold:
    """A plan with a fee and two usage lines, one of them graduated."""
    counted = {
        "key": "closing_calls",
        "aggregation": "count",
        "event_types": ["stored.call"],
        "dimensions": ["account"],
    }
    summed = {"key": "closing_tokens", "aggregation": "sum", "value_property": "tokens", "dimensions": ["model"]}
    calls = await rig.caller.call("POST", "/v1/meters", counted)
    tokens = await rig.caller.call("POST", "/v1/meters", {**summed, "event_types": ["stored.call"]})
    tiers = [
        {"up_to": "1000", "unit_amount": "0.002"},
        {"up_to": "10000", "unit_amount": "0.001"},
        {"unit_amount": "0.0005"},
    ]
    prices: list[dict[str, Any]] = [
        {"key": "fee", "price": {"model": "flat", "amount": "29.00"}},
        {"key": "calls", "meter": "closing_calls", "price": {"model": "per_unit", "unit_amount": "0.0125"}},
        {"key": "tokens", "meter": "closing_tokens", "price": {"model": "graduated", "tiers": tiers}},
    ]
    plan = await rig.caller.call("POST", "/v1/plans", {"key": "closing", "currency": "USD", "prices": prices})
    return Sold(plan_version=plan["version_id"], calls=calls["id"], tokens=tokens["id"])


async def close(rig: Rig, clickhouse: ClickhouseClient, sold: Sold, count: int) -> Closed:
    """Makes `count` subscriptions due, closes them, and compares what was billed with what was stored."""
    run = f"{uuid4().hex[:8]}-"
    start = SystemClock().now().replace(microsecond=0) - timedelta(days=40)
    make_due(rig, sold, run, count, start)
    await use(clickhouse, sold, run, count, start)
    temporal = TemporalSettings(address=rig.address.endpoints.temporal_address)
    client = await connect(temporal)
    begun = time.perf_counter()
    report = await client.execute_workflow(
        CloseDuePeriods.run, ClosingProgress(), id=f"bench-closing-{run}", task_queue=temporal.task_queue
    )
    seconds = time.perf_counter() - begun
    if (report.billed, report.stopped) != (count, 0):
        raise BenchError(f"{report.billed} of {count} periods were billed, {report.stopped} subscriptions stopped")
    check_issued(rig, run, count)
    return Closed(run=run, per_second=count / seconds)


def make_due(rig: Rig, sold: Sold, run: str, count: int, start: datetime) -> None:
    given = {
        "run": run,
        "count": count,
        "tenant": TENANT,
        "environment": ENVIRONMENT,
        "plan": sold.plan_version,
        "start": start,
    }
    with psycopg.connect(rig.address.endpoints.postgres_url) as conn:
        conn.execute("SET TIME ZONE 'UTC'")
        for statement in (CUSTOMERS, REFERENCES, SUBSCRIPTIONS):
            conn.execute(statement, given)
        conn.commit()
        conn.autocommit = True
        conn.execute("ANALYZE customers, customer_references, subscriptions")


async def use(clickhouse: ClickhouseClient, sold: Sold, run: str, count: int, start: datetime) -> None:
    """EVENTS_EACH events a subscription: the first in its first second, the others a day apart."""
    begun_ms = int(start.timestamp() * 1000)
    number, nth = f"n % {count}", f"intDiv(n, {count})"
    await fill_events(
        clickhouse,
        topic=run,
        calls=sold.calls,
        tokens=sold.tokens,
        first=0,
        count=count * EVENTS_EACH,
        customer=f"concat('{run}', toString({number}))",
        at=f"fromUnixTimestamp64Milli(toInt64({begun_ms} + ({number}) * 1000 + ({nth}) * 86400000 + 1), 'UTC')",
        log_day="today()",
    )


def check_issued(rig: Rig, run: str, count: int) -> None:
    events = count * EVENTS_EACH
    wanted = (count, Decimal(events + sum(number % 1999 for number in range(events))), count * 3)
    with psycopg.connect(rig.address.endpoints.postgres_url) as conn:
        found = conn.execute(ISSUED, {"run": run}).fetchone()
    if found != wanted:
        raise BenchError(f"invoices, billed quantities and lines are {found}, and not {wanted}")


def bare_writes(rig: Rig, run: str, count: int) -> float:
    """Invoices a second when PostgreSQL is only given the rows of `run` again, by COPY, BATCH invoices a transaction."""
    batches = [
        [f"sub_{run}{number}" for number in range(first, min(first + BATCH, count))] for first in range(0, count, BATCH)
    ]
    with psycopg.connect(rig.address.endpoints.postgres_url) as conn:
        rows = [{table: copied(conn, table, found, some) for table, found in WRITTEN.items()} for some in batches]
        for table in WRITTEN:
            conn.execute(f"CREATE TABLE IF NOT EXISTS bench_{table} (LIKE {table} INCLUDING ALL)")
        conn.commit()
        begun = time.perf_counter()
        for batch in rows:
            for table, lines in batch.items():
                with conn.cursor().copy(f"COPY bench_{table} FROM STDIN") as copy:
                    copy.write(lines)
            conn.commit()
        seconds = time.perf_counter() - begun
        for table in WRITTEN:
            conn.execute(f"DROP TABLE bench_{table}")
    return count / seconds


def copied(conn: "psycopg.Connection[Any]", table: str, found: LiteralString, some: list[str]) -> bytes:
    rows = sql.SQL("COPY (SELECT * FROM {} WHERE {}) TO STDOUT").format(sql.Identifier(table), sql.SQL(found))
    with conn.cursor().copy(rows, {"some": some}) as copy:
        return b"".join(bytes(block) for block in copy)
