"""`meterstream status`: how far each partition is, how fresh usage is, and what is wrong."""

import asyncio
import os
from collections.abc import Awaitable, Mapping
from datetime import timedelta
from typing import Annotated

import msgspec
import typer

from cli.reconcile_balances import reconcile_balances
from domain.errors import Unavailable
from domain.system_status import problems_of
from runtime.clock import SystemClock
from runtime.logs import configure_logging
from runtime.settings import Settings, load_settings
from schemas.system_status import BalancesStatus, CutStatus, PartitionStatus, SystemStatus
from schemas.topics import APP_BALANCES, USAGE_DELTAS, USAGE_RAW
from stores.clickhouse.client import ClickhouseClient
from stores.group_lag import group_lag
from stores.log_ends import LogEnds
from stores.postgres.cuts import Cuts
from stores.postgres.engine import create_engine
from stores.postgres.progress import ProgressReader
from stores.postgres.system_status import failed_periods, partition_states

app = typer.Typer()


@app.command()
def status(
    behind_max_s: Annotated[int, typer.Option(help="A partition further behind than this is a problem.")] = 60,
    balances_lag_max: Annotated[int, typer.Option(help="As many records of usage.deltas may wait.")] = 5_000,
    balances: Annotated[bool, typer.Option("--balances", help="Compare every balance with its usage, too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Say how far each partition is and how fresh usage is; exit code 1, with the reasons, when something is wrong."""
    settings = load_settings(os.environ)
    configure_logging(settings.log)
    found = asyncio.run(read(settings, timedelta(seconds=behind_max_s), balances_lag_max, compares=balances))
    print(msgspec.json.encode(found).decode() if json else "\n".join(lines(found)))
    if found.problems:
        raise typer.Exit(1)


async def read(
    settings: Settings, behind_max: timedelta, balances_lag_max: int, *, compares: bool = False
) -> SystemStatus:
    """`compares`: balances with usage, which reads all of both. Raises Unavailable when PostgreSQL does not answer; a Kafka
    that does not is a problem among others.
    """
    engine = create_engine(settings.postgres)
    kafka, clock = settings.kafka, SystemClock()
    ends = LogEnds(kafka, USAGE_RAW, kafka.raw_partitions, kafka.request_timeout_s)
    try:
        topic_id = await ProgressReader(engine, USAGE_RAW).topic_id()
        # The ledger first: what comes in between is lag that is there.
        states = await partition_states(engine, topic_id)
        log_ends = await _unless_away(ends.read())
        lags = await _unless_away(group_lag(kafka, USAGE_DELTAS, kafka.balance_partitions, APP_BALANCES))
        cut = await _newest_cut(Cuts(engine))
        failed = await failed_periods(engine)
    finally:
        await ends.close()
        await engine.dispose()
    differing = await _differing(settings) if compares else None
    partitions = tuple(
        msgspec.convert(
            {**msgspec.structs.asdict(one), "lag": _lag(log_ends, one.partition, one.last_offset)},
            PartitionStatus,
            from_attributes=True,
        )
        for one in states
    )
    balances = tuple(
        BalancesStatus(partition=number, lag=None if lags is None else lags[number])
        for number in range(kafka.balance_partitions)
    )
    at = clock.now()
    as_of = min((one.as_of for one in partitions), default=None)
    return SystemStatus(
        at=at,
        as_of=as_of,
        freshness_s=None if as_of is None else max(0.0, (at - as_of).total_seconds()),
        partitions=partitions,
        balances=balances,
        cut=cut,
        failed_periods=failed,
        balances_differing=differing,
        problems=tuple(
            problems_of(
                at=at,
                partitions=partitions,
                balances=balances,
                cut=cut,
                failed_periods=failed,
                balances_differing=differing,
                behind_max=behind_max,
                balances_lag_max=balances_lag_max,
                cut_interval=timedelta(seconds=settings.closing.cut_interval_s),
            )
        ),
    )


async def _newest_cut(cuts: Cuts) -> CutStatus | None:
    newest = await cuts.list(limit=1)
    if not newest:
        return None
    [one] = newest
    return CutStatus(cut=one.cut, raised_at=one.raised_at, complete=await cuts.is_complete(one.cut))


async def _differing(settings: Settings) -> int:
    clickhouse = ClickhouseClient(settings.clickhouse)
    try:
        return len((await reconcile_balances(settings.kafka, clickhouse, SystemClock())).differences)
    finally:
        await clickhouse.close()


async def _unless_away(asking: Awaitable[Mapping[int, int]]) -> Mapping[int, int] | None:
    try:
        return await asking
    except Unavailable:
        return None


def _lag(ends: Mapping[int, int] | None, partition: int, last_offset: int) -> int | None:
    return None if ends is None or partition not in ends else max(0, ends[partition] - last_offset - 1)


def lines(found: SystemStatus) -> list[str]:
    """For people."""
    shown = ["partition  lag        last offset  behind     last block           epoch/gen  open block"]
    for one in found.partitions:
        behind = f"{max(0.0, (found.at - one.as_of).total_seconds()):.1f} s" if one.epoch else "never"
        done = "-" if one.last_done_at is None else f"{one.last_done_at:%Y-%m-%d %H:%M:%S}"
        opened = one.open_intent
        age = (
            "-"
            if opened is None
            else f"{opened.first_offset} for {(found.at - opened.intent_at).total_seconds():.1f} s"
        )
        lag = "?" if one.lag is None else f"{one.lag:,}"
        shown.append(
            f"{one.partition:<10} {lag:<10} {one.last_offset:<12} {behind:<10} {done:<20} {one.epoch}/{one.generation:<8} {age}"
        )
    lags = [one.lag for one in found.balances if one.lag is not None]
    shown.append(f"balances   {sum(lags):,} records behind" if lags else "balances   unknown")
    if found.balances_differing is not None:
        shown.append(f"           {found.balances_differing:,} differ from their usage")
    if found.as_of is not None:
        shown.append(f"usage      as of {found.as_of:%Y-%m-%d %H:%M:%S}Z, {found.freshness_s:.1f} s ago")
    if found.cut is not None:
        state = "complete" if found.cut.complete else "not complete yet"
        shown.append(f"cut        {found.cut.cut}, raised {found.cut.raised_at:%Y-%m-%d %H:%M:%S}Z, {state}")
    shown += [f"PROBLEM    {problem}" for problem in found.problems] or ["healthy"]
    return shown
