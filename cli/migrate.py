"""`meterstream migrate`: PostgreSQL's tables, ClickHouse's tables and Kafka's topics, to what this release needs."""

import asyncio
import os
from typing import Annotated, Any

import msgspec
import typer

from domain.errors import Conflict
from runtime.clock import SystemClock
from runtime.logs import configure_logging
from runtime.settings import Settings, load_settings
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.migrations import MigrationError, Migrations
from stores.clickhouse.tokens import token_windows
from stores.postgres import migrations as postgres
from stores.postgres.engine import create_engine
from stores.topics import TopicStatus, migrate_topics, wanted_topics

app = typer.Typer()

Report = dict[str, list[dict[str, Any]]]


@app.command()
def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")] = False,
    status: Annotated[bool, typer.Option("--status", help="As --dry-run; exit code 1 when anything is left.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Bring PostgreSQL, ClickHouse and Kafka's topics to what this release needs. Safe to repeat, also two at once."""
    settings = load_settings(os.environ)
    configure_logging(settings.log)
    report = asyncio.run(run(settings, changes=not (dry_run or status)))
    if json:
        print(msgspec.json.encode(report).decode())
    else:
        print("\n".join(lines(report)))
    if status and pending(report):
        raise typer.Exit(1)


async def run(settings: Settings, *, changes: bool) -> Report:
    """What was done, or without `changes` would be. PostgreSQL first: the topics' ids are recorded there."""
    try:
        return {
            "postgres": _postgres(settings, changes=changes),
            "clickhouse": await _clickhouse(settings, changes=changes),
            "topics": await _topics(settings, changes=changes),
        }
    except MigrationError as error:
        raise Conflict("migration_differs", str(error)) from error


def _postgres(settings: Settings, *, changes: bool) -> list[dict[str, Any]]:
    before = postgres.migrate(settings.postgres, dry_run=not changes)
    state = "done" if changes else "pending"
    return [{"name": revision, "state": state} for revision in before.pending] or [
        {"name": before.head, "state": "unchanged"}
    ]


async def _clickhouse(settings: Settings, *, changes: bool) -> list[dict[str, Any]]:
    client = ClickhouseClient(settings.clickhouse)
    try:
        runner = Migrations(client, token_windows(settings), SystemClock())
        waiting = {migration.version for migration, _ in await runner.pending()}
        if changes:
            await runner.apply()
        return [
            {
                "name": f"{one.version:04d}_{one.name}",
                "state": ("done" if changes else "pending") if one.version in waiting else "unchanged",
            }
            for one in await runner.status()
        ]
    finally:
        await client.close()


async def _topics(settings: Settings, *, changes: bool) -> list[dict[str, Any]]:
    engine = create_engine(settings.postgres)
    try:
        # A dry run before the first migration has no table to read the recorded ids from.
        empty = not changes and bool(postgres.status(settings.postgres).pending)
        found = (
            [_missing(topic.name, topic.partitions) for topic in wanted_topics(settings.kafka)]
            if empty
            else await migrate_topics(engine, settings.kafka, dry_run=not changes)
        )
    finally:
        await engine.dispose()
    return [
        {
            "name": topic.name,
            "state": ("done" if changes else "pending") if topic.created else "unchanged",
            "partitions": topic.partitions,
            "topic_id": topic.topic_id,
        }
        for topic in found
    ]


def _missing(name: str, partitions: int) -> TopicStatus:
    return TopicStatus(name=name, partitions=partitions, topic_id="", created=True)


def pending(report: Report) -> bool:
    return any(step["state"] == "pending" for steps in report.values() for step in steps)


def lines(report: Report) -> list[str]:
    """For people: what changed, and per part how much did not."""
    found = []
    for part, steps in report.items():
        changed = [step for step in steps if step["state"] != "unchanged"]
        found += [f"{part:<10}  {step['state']:<8} {step['name']}" for step in changed]
        if not changed:
            found.append(f"{part:<10}  unchanged")
    return found
