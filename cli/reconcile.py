"""`meterstream reconcile`: the ledger beside the rows, the windows beside the events, the balances beside the windows.

Each side of a comparison is counted anew from what is stored; no counter that the other side was made from is asked.
"""

import asyncio
import os
from datetime import datetime, timedelta
from typing import Annotated

import msgspec
import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.reconcile_balances import reconcile_balances
from domain.errors import Invalid
from domain.instants import parse_instant
from domain.reconciliation import OUTCOMES, hour_differences
from runtime.clock import SystemClock
from runtime.logs import configure_logging
from runtime.settings import Settings, load_settings
from schemas.reconciliation import LedgerReport, ReconcileReport, WindowsReport
from schemas.topics import USAGE_RAW
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.reconcile import meter_days, rows_by_partition_and_hour
from stores.postgres.cuts import Cuts
from stores.postgres.engine import create_engine
from stores.postgres.progress import Progress, ProgressReader

app = typer.Typer()

DEFAULT_SPAN = timedelta(days=1)
COMPLETE_WITHIN_S = 60.0
# Differences that are listed of each kind; of more than these nobody reads.
LISTED = 1_000


@app.command()
def reconcile(
    start: Annotated[
        str | None, typer.Option("--from", help="RFC 3339, like 2026-11-22T10:00:00Z; default a day before --to.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="Excluded; default now.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Count everything of a range again and compare: receipt hours for the ledger, event time for windows, and all
    balances there are. Exit code 1 when anything differs.
    """
    settings = load_settings(os.environ)
    configure_logging(settings.log)
    until = parse_instant("--to", end) if end else SystemClock().now()
    since = parse_instant("--from", start) if start else until - DEFAULT_SPAN
    if since >= until:
        raise Invalid("range_out_of_bounds", "--from lies before --to")
    found = asyncio.run(run(settings, since, until))
    print(msgspec.json.encode(found).decode() if json else "\n".join(lines(found)))
    if found.differences:
        raise typer.Exit(1)


async def run(settings: Settings, start: datetime, end: datetime) -> ReconcileReport:
    """Changes nothing but the cut, which it may raise. Raises Unavailable, and Conflict `cut_open`."""
    engine, clickhouse = create_engine(settings.postgres), ClickhouseClient(settings.clickhouse)
    try:
        reader = ProgressReader(engine, USAGE_RAW)
        # Both sides up to the same positions: what is being stored meanwhile is no difference.
        progress = await reader.progress()
        ledger = await _ledger(reader, clickhouse, progress, start, end)
        windows = await _windows(engine, clickhouse, settings, start, end)
        balances = await reconcile_balances(settings.kafka, clickhouse, SystemClock())
    finally:
        await clickhouse.close()
        await engine.dispose()
    return ReconcileReport(
        start=start,
        end=end,
        as_of=progress.as_of,
        ledger=ledger,
        windows=windows,
        balances=balances,
        differences=len(ledger.differences) + len(windows.differences) + len(balances.differences),
    )


async def _ledger(
    reader: ProgressReader, clickhouse: ClickhouseClient, progress: Progress, start: datetime, end: datetime
) -> LedgerReport:
    counted = await reader.outcomes_by_partition_and_hour(progress.vector, start, end)
    held = await rows_by_partition_and_hour(clickhouse, await reader.topic_id(), progress.vector, start, end)
    ledger = {place: {name: getattr(one, name) for name in OUTCOMES} for place, one in counted.items()}
    rows = {place: {name: getattr(one, name) for name in OUTCOMES} for place, one in held.items()}
    sums = {name: sum(one[name] for one in ledger.values()) for name in OUTCOMES}
    return LedgerReport(
        hours=len({*ledger, *rows}),
        **sums,
        accepted=sum(sums.values()),
        differences=tuple(hour_differences(ledger, rows)),
    )


async def _windows(
    engine: AsyncEngine, clickhouse: ClickhouseClient, settings: Settings, start: datetime, end: datetime
) -> WindowsReport:
    """At one cut, so that both sides hold the same events while others are stored (protocol 10)."""
    cuts = Cuts(engine)
    cut = await cuts.raise_cut(settings.closing.cut_min_interval_s, SystemClock().now())
    await cuts.wait_complete(cut, COMPLETE_WITHIN_S)
    compared, differing = await meter_days(clickhouse, start, end, cut, LISTED)
    return WindowsReport(cut=cut, meter_days=compared, differences=tuple(differing))


def lines(found: ReconcileReport) -> list[str]:
    """For people."""
    ledger, windows, balances = found.ledger, found.windows, found.balances
    outcomes = " + ".join(f"{getattr(ledger, name):,} {name}" for name in OUTCOMES)
    accepted = f"{ledger.accepted:,} accepted = {outcomes}"
    windows_of = f"{windows.meter_days:,} meter days at cut {windows.cut} beside their events"
    balances_of = f"{balances.counters:,} counters of {balances.customers:,} customers beside their usage"
    shown = [
        f"received {found.start:%Y-%m-%d %H:%M}Z to {found.end:%Y-%m-%d %H:%M}Z, as of {found.as_of:%Y-%m-%d %H:%M:%S}Z",
        f"ledger    {accepted}; {ledger.hours:,} partition hours, {len(ledger.differences):,} differences",
        f"windows   {windows_of}, {len(windows.differences):,} differences",
        f"balances  {balances_of}, {balances.moving:,} moving, {len(balances.differences):,} differences",
    ]
    shown += [
        f"  DIFFERENCE partition {one.partition}, {one.hour:%Y-%m-%d %H:00}Z: {one.outcome} {one.rows:,} in the table,"
        f" {one.ledger:,} in the ledger"
        for one in ledger.differences
    ]
    shown += [
        f"  DIFFERENCE {day.tenant}/{day.environment} meter {day.meter_id} generation {day.generation}, {day.day}:"
        f" windows {day.windows}, events {day.events}"
        for day in windows.differences
    ]
    shown += [
        f"  DIFFERENCE {one.tenant}/{one.environment} {one.customer_id} meter {one.meter_id} from {one.start_at.isoformat()}:"
        f" balance {one.balance}, usage {one.usage}"
        for one in balances.differences
    ]
    return [*shown, f"{found.differences:,} differences"]
