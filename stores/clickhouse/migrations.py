"""Forward-only migrations of `ch_migrations/`: what is applied is recorded in ClickHouse, with a checksum of its text.

ClickHouse has no transactions over DDL, so every statement is written to be repeatable (`IF NOT EXISTS`): a migration
that was interrupted stays visible as started and not finished, and the next run does all its statements again.
Files named `*.cluster.sql` are for clusters only. Whether there is a cluster is decided before the first migration.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from runtime.clock import Clock
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.tokens import TokenWindows, read_token_windows

DIRECTORY = Path(__file__).resolve().parents[2] / "ch_migrations"

_FILE = re.compile(r"(?P<version>\d{4})_(?P<name>\w+?)(?P<cluster>\.cluster)?\.sql")
_PLACEHOLDER = re.compile(
    r"\{(?P<word>database|cluster|on_cluster|events_tokens|windows_tokens|replicated_tokens|engine)"
    r"(?::(?P<argument>\w+))?\}"
)
_CREATED = re.compile(r"\.(\w+)\{on_cluster\}")
# `{shard}` and `{replica}` are the servers' own macros.
_REPLICATED = "Replicated{engine}('/clickhouse/tables/{{shard}}/{database}/{table}', '{{replica}}')"
_COLUMNS = ("version", "name", "checksum", "started_at", "finished_at")

State = Literal["applied", "pending", "interrupted", "changed"]


class MigrationError(RuntimeError):
    """The recorded migrations and the files contradict each other: says how, and what to do."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where migrations go, and what fills their placeholders. `cluster` "" is a single server."""

    database: str
    cluster: str
    tokens: TokenWindows


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Of the file, not of what placeholders make of it: a changed setting is no changed migration."""
        return hashlib.sha256(self.text.encode()).hexdigest()


class MigrationStatus(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    name: str
    state: State
    started_at: datetime | None = None
    finished_at: datetime | None = None


def load_migrations(directory: Path = DIRECTORY, *, cluster: bool) -> list[Migration]:
    """The files in order. Raises MigrationError for a gap, a duplicate or a name that is none."""
    found: list[Migration] = []
    versions: list[int] = []
    for path in sorted(directory.glob("*.sql")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path.name}: a migration is named like 0001_events.sql or 0001_events.cluster.sql")
        versions.append(int(match["version"]))
        if cluster or not match["cluster"]:
            found.append(Migration(version=versions[-1], name=match["name"], text=path.read_text()))
    if versions != list(range(1, len(versions) + 1)):
        raise MigrationError(f"migrations are numbered 1 to {len(versions)} without gaps, but there are {versions}")
    return found


def render(migration: Migration, target: Target) -> list[str]:
    """The statements of a migration for this target, in order."""
    body = re.sub(r"(?m)^\s*--.*\n?", "", migration.text)
    return [_filled(statement, target) for statement in body.split(";") if statement.strip()]


def _filled(statement: str, target: Target) -> str:
    return _PLACEHOLDER.sub(lambda found: _fill(found, statement, target), statement).strip()


def _fill(found: re.Match[str], statement: str, target: Target) -> str:
    word, argument = found["word"], found["argument"]
    plain = {
        "database": target.database,
        "cluster": target.cluster,
        "on_cluster": f" ON CLUSTER '{target.cluster}'" if target.cluster else "",
        "events_tokens": str(target.tokens.events),
        "windows_tokens": str(target.tokens.windows),
    }
    if word in plain:
        return plain[word]
    if word == "engine":
        if not target.cluster:
            return str(argument)
        created = _CREATED.search(statement)
        if created is None:
            raise MigrationError(f"no created table beside an engine in: {statement[:80]}")
        return _REPLICATED.format(engine=argument, database=target.database, table=created[1])
    if not target.cluster:
        return ""
    return (
        f", replicated_deduplication_window = {plain[str(argument)]}"
        f", replicated_deduplication_window_seconds = {target.tokens.kept_s}"
    )


class Migrations:
    """The runner. One at a time: `meterstream migrate` runs before the processes, or under its own lock."""

    def __init__(
        self, client: ClickhouseClient, tokens: TokenWindows, clock: Clock, directory: Path = DIRECTORY
    ) -> None:
        self._client = client
        self._clock = clock
        self._target = Target(database=client.database, cluster=client.cluster, tokens=tokens)
        self._migrations = load_migrations(directory, cluster=bool(client.cluster))
        self._table = f"{client.database}.schema_migrations"

    async def status(self) -> list[MigrationStatus]:
        """Every migration and how it stands; changes nothing."""
        recorded = await self._recorded()
        unknown = sorted(set(recorded) - {migration.version for migration in self._migrations})
        if unknown:
            raise MigrationError(f"the database has migrations {unknown} that this release does not know: it is newer")
        return [_state(migration, recorded.get(migration.version)) for migration in self._migrations]

    async def pending(self) -> list[tuple[Migration, list[str]]]:
        """What `apply` would run (the dry run). Raises MigrationError when an applied file was changed."""
        states = await self.status()
        changed = [f"{state.version:04d}_{state.name}" for state in states if state.state == "changed"]
        if changed:
            raise MigrationError(f"changed after they were applied: {', '.join(changed)}; add a new migration instead")
        waiting = {state.version for state in states if state.state != "applied"}
        return [(one, render(one, self._target)) for one in self._migrations if one.version in waiting]

    async def apply(self) -> list[MigrationStatus]:
        """Brings the database to head and answers what was done; nothing when it is there already.

        Safe to repeat at any point: statements are repeatable, and the record says which migrations are finished.
        """
        await self._create_table()
        done = []
        for migration, statements in await self.pending():
            started_at = self._clock.now()
            await self._record(migration, started_at, None)
            for statement in statements:
                await self._client.command(statement)
            finished_at = self._clock.now()
            await self._record(migration, started_at, finished_at)
            done.append(
                MigrationStatus(
                    version=migration.version,
                    name=migration.name,
                    state="applied",
                    started_at=started_at,
                    finished_at=finished_at,
                )
            )
        await self._widen_token_windows()
        return done

    async def _widen_token_windows(self) -> None:
        """Protocol 1: settings that need more tokens than the tables were created with take effect here; never fewer."""
        kept = await read_token_windows(self._client)
        name = "replicated_deduplication_window" if self._target.cluster else "non_replicated_deduplication_window"
        on_cluster = f" ON CLUSTER '{self._target.cluster}'" if self._target.cluster else ""
        wanted = {"events": self._target.tokens.events, "usage_windows": self._target.tokens.windows}
        for table, tokens in wanted.items():
            if table in kept and kept[table] < tokens:
                await self._client.command(
                    f"ALTER TABLE {self._target.database}.{table}{on_cluster} MODIFY SETTING {name} = {tokens}"
                )

    async def _create_table(self) -> None:
        text = (
            "CREATE TABLE IF NOT EXISTS {database}.schema_migrations{on_cluster} (version UInt32, name String, "
            "checksum String, started_at DateTime64(3, 'UTC'), finished_at Nullable(DateTime64(3, 'UTC')), "
            "written_at DateTime64(6, 'UTC')) ENGINE = {engine:MergeTree} ORDER BY version"
        )
        for statement in render(Migration(version=0, name="schema_migrations", text=text), self._target):
            await self._client.command(statement)

    async def _record(self, migration: Migration, started_at: datetime, finished_at: datetime | None) -> None:
        await self._client.command(
            f"INSERT INTO {self._table} ({', '.join(_COLUMNS)}, written_at) SELECT {{version:UInt32}}, {{name:String}}, "
            "{checksum:String}, fromUnixTimestamp64Milli({started:Int64}, 'UTC'), "
            "if({finished:Int64} < 0, NULL, fromUnixTimestamp64Milli({finished:Int64}, 'UTC')), now64(6)",
            {
                "version": migration.version,
                "name": migration.name,
                "checksum": migration.checksum,
                "started": _ms(started_at),
                "finished": -1 if finished_at is None else _ms(finished_at),
            },
            async_insert=0,
        )

    async def _recorded(self) -> dict[int, Sequence[object]]:
        exists = await self._client.rows(
            "SELECT count() FROM system.tables WHERE database = {database:String} AND name = 'schema_migrations'",
            {"database": self._target.database},
        )
        if not exists[0][0]:
            return {}
        # The row that says finished wins over the one that said started.
        rows = await self._client.rows(
            f"SELECT {', '.join(_COLUMNS)} FROM {self._table} "
            "ORDER BY version, isNotNull(finished_at) DESC, written_at DESC LIMIT 1 BY version"
        )
        return {row[0]: row for row in rows}


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _state(migration: Migration, row: Sequence[object] | None) -> MigrationStatus:
    if row is None:
        return MigrationStatus(version=migration.version, name=migration.name, state="pending")
    recorded: Mapping[str, object] = dict(zip(_COLUMNS, row, strict=True))
    state: State = "applied" if recorded["finished_at"] is not None else "interrupted"
    if state == "applied" and recorded["checksum"] != migration.checksum:
        state = "changed"
    started_at, finished_at = recorded["started_at"], recorded["finished_at"]
    return MigrationStatus(
        version=migration.version,
        name=migration.name,
        state=state,
        started_at=started_at if isinstance(started_at, datetime) else None,
        finished_at=finished_at if isinstance(finished_at, datetime) else None,
    )
