"""`meterstream repair`: after a store was restored from a backup, or when a partition refuses to be taken over."""

import asyncio
import os
from datetime import datetime
from typing import Annotated

import msgspec
import typer

from domain.errors import Conflict, Invalid
from domain.instants import parse_instant
from runtime.clock import SystemClock
from runtime.logs import configure_logging
from runtime.settings import Settings, load_settings
from schemas.topics import USAGE_RAW
from stores.topics import checked_topic_ids
from streams.deps import close, wire
from streams.repair import repair as run_repair
from streams.repair_report import Finding, RepairReport

app = typer.Typer()


@app.command()
def repair(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is wrong; change nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
    partition: Annotated[int | None, typer.Option("--partition", help="Only this partition of usage.raw.")] = None,
    windows: Annotated[bool, typer.Option("--windows", help="Only compare usage_windows with events.")] = False,
    start: Annotated[str, typer.Option("--from", help="Event time with --windows: RFC 3339, whole minutes.")] = "",
    end: Annotated[str, typer.Option("--to", help="Event time with --windows, not included.")] = "",
) -> None:
    """Find what ClickHouse, PostgreSQL and the log disagree on, and mend it from the log. Safe to repeat.

    Partitions are taken from their workers, which take them back when this is done. Exit code 0: nothing is wrong (any
    more); 1: something is, and the last lines say what.
    """
    settings = load_settings(os.environ)
    configure_logging(settings.log)
    bounds = (_minute("--from", start), _minute("--to", end)) if windows else None
    if not windows and (start or end):
        raise Invalid("range_without_windows", "--from and --to belong to --windows")
    report = asyncio.run(run(settings, partition=partition, changes=not dry_run, windows=bounds))
    print(msgspec.json.encode(report).decode() if json else "\n".join(lines(report)))
    if not report.is_whole:
        raise typer.Exit(1)


async def run(
    settings: Settings,
    *,
    partition: int | None,
    changes: bool,
    windows: tuple[datetime, datetime] | None = None,
) -> RepairReport:
    """One repair with connections of its own."""
    if settings.clickhouse.cluster and changes:
        raise Conflict(
            "repair_of_cluster", "repairs were never run on a cluster of ClickHouse: use --dry-run, and restore"
        )
    deps = wire(settings, SystemClock())
    try:
        topic_id = (await checked_topic_ids(deps.engine, settings.kafka))[USAGE_RAW]
        partitions = range(settings.kafka.raw_partitions) if partition is None else [partition]
        return await run_repair(deps, topic_id, partitions=partitions, changes=changes, windows=windows)
    finally:
        await close(deps)


def _minute(option: str, text: str) -> datetime:
    at = parse_instant(option, text)
    if at.second or at.microsecond:
        raise Invalid("invalid_instant", f"{option} wants whole minutes, like 2026-11-01T00:00:00Z")
    return at


def lines(report: RepairReport) -> list[str]:
    """For people: one line a finding, and the verdict last."""
    verdict = "repair: everything agrees" if report.is_whole else "repair: NOT everything agrees"
    return [*(_line(finding) for finding in report.findings), verdict]


def _line(finding: Finding) -> str:
    place = "" if finding.partition is None else f" partition {finding.partition}"
    if finding.first_offset is not None:
        place += f" offsets {finding.first_offset}-{finding.last_offset}"
    return f"{finding.state.replace('_', ' '):<12} {finding.kind:<8}{place}: {finding.message}"
