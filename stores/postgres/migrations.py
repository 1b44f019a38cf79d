"""Alembic run from code: where PostgreSQL's schema is, and the way to head. No ini file; `pg_migrations/` is the source."""

from pathlib import Path

import msgspec
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine

from runtime.settings import PostgresSettings
from stores.postgres.engine import answering, connect_args, sync_url

SCRIPTS = Path(__file__).resolve().parents[2] / "pg_migrations"


class SchemaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`current` is None in an empty database; `pending` are the revisions up to `head`, in order."""

    current: str | None
    head: str
    pending: list[str]


def _engine(settings: PostgresSettings) -> Engine:
    arguments = connect_args(settings)
    # A migration may take longer than a request ever may: it waits for locks, it rewrites tables.
    arguments["options"] = "-c timezone=UTC"
    return create_engine(sync_url(settings), connect_args=arguments)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def status(settings: PostgresSettings) -> SchemaStatus:
    """What is applied and what is not. Raises `Unavailable`; writes nothing."""
    engine = _engine(settings)
    try:
        with answering(), engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    scripts = ScriptDirectory.from_config(_config())
    head = scripts.get_current_head() or ""
    pending = (
        [] if current == head else [script.revision for script in scripts.iterate_revisions(head, current or "base")]
    )
    return SchemaStatus(current=current, head=head, pending=pending[::-1])


def migrate(settings: PostgresSettings, *, dry_run: bool = False) -> SchemaStatus:
    """To head; answers with the status before, so `pending` is what was applied (or, in a dry run, would be).

    Idempotency key: the revision, in one transaction with what it changes; two at once wait for each other.
    """
    before = status(settings)
    if dry_run or not before.pending:
        return before
    engine = _engine(settings)
    try:
        with answering(), engine.begin() as connection:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()
    return before
