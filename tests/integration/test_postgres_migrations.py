"""The numbered migrations build what `stores/postgres/tables.py` says, once, however often they run."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from runtime.settings import PostgresSettings
from stores.postgres.all_tables import metadata
from stores.postgres.engine import sync_url
from stores.postgres.migrations import migrate, status
from tests.support.database import database

# What autogenerate does not compare, or only in part: constraints with their conditions, indexes with theirs.
CATALOG = {
    "columns": """
        SELECT table_name, column_name, data_type, udt_name, is_nullable, column_default, is_identity,
            identity_generation
        FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
        ORDER BY 1, 2
    """,
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version' ORDER BY 1, 2
    """,
    "indexes": """
        SELECT tablename, indexname, indexdef FROM pg_indexes
        WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY 1, 2
    """,
}


def _catalog(settings: PostgresSettings) -> dict[str, list[Any]]:
    with psycopg.connect(settings.url.reveal()) as connection:
        return {part: connection.execute(query).fetchall() for part, query in CATALOG.items()}


@pytest.fixture
def empty(postgres_url: str) -> Iterator[PostgresSettings]:
    with database(postgres_url, "test_migrations", migrated=False) as settings:
        yield settings


def test_from_empty_to_head_and_again_without_change(empty: PostgresSettings) -> None:
    before = status(empty)
    assert before.current is None
    assert before.pending[-1] == before.head
    assert migrate(empty, dry_run=True) == before
    assert _catalog(empty)["columns"] == []
    assert migrate(empty) == before
    built = _catalog(empty)
    after = status(empty)
    assert (after.current, after.pending) == (before.head, [])
    assert migrate(empty) == after
    assert _catalog(empty) == built


def test_the_migrated_database_is_what_the_tables_say(empty: PostgresSettings, postgres_url: str) -> None:
    migrate(empty)
    engine = create_engine(sync_url(empty))
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
    engine.dispose()
    with database(postgres_url, "test_migrations_declared", migrated=False) as declared:
        engine = create_engine(sync_url(declared))
        metadata.create_all(engine)
        engine.dispose()
        assert _catalog(empty) == _catalog(declared)


def test_the_two_counters_have_their_row_from_the_start(empty: PostgresSettings) -> None:
    migrate(empty)
    with psycopg.connect(empty.url.reveal()) as connection:
        assert connection.execute("SELECT id, cut FROM usage_cut").fetchall() == [(1, 1)]
        assert connection.execute("SELECT id, version FROM catalog_head").fetchall() == [(1, 0)]


def test_two_processes_at_once_both_end_well(empty: PostgresSettings) -> None:
    program = (
        "import os; from runtime.settings import load_settings; from stores.postgres.migrations import migrate;"
        " migrate(load_settings(os.environ).postgres)"
    )
    environment = {**os.environ, "METERSTREAM_POSTGRES_URL": empty.url.reveal()}
    running = [subprocess.Popen([sys.executable, "-c", program], env=environment) for _ in range(2)]
    assert [process.wait(60) for process in running] == [0, 0]
    assert status(empty).pending == []
