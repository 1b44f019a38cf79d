"""The numbered migrations build what `stores/postgres/tables.py` says, once, however often they run."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from domain.subscriptions.fold import fold
from domain.subscriptions.holding import is_plain
from runtime.settings import PostgresSettings
from schemas.subscription_changes import Activate, Cancel, ChangeRecord, Create
from stores.postgres.all_tables import metadata
from stores.postgres.engine import sync_url
from stores.postgres.migrations import SCRIPTS, migrate, status
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


def test_subscriptions_of_before_get_a_history_that_says_what_their_rows_say(empty: PostgresSettings) -> None:
    scripts = ScriptDirectory(str(SCRIPTS))
    upgrade_to(empty, str(scripts.get_revision("0006").down_revision))
    start, made, end = "2026-01-31T00:00:00Z", "2026-02-03T04:05:06.789Z", "2026-03-31T00:00:00Z"
    with psycopg.connect(empty.url.reveal()) as connection:
        connection.execute(SUBSCRIBED, {"start": start, "made": made, "end": end})
    migrate(empty)
    with psycopg.connect(empty.url.reveal()) as connection:
        query = "SELECT subscription_id, record FROM subscription_changes ORDER BY subscription_id, revision"
        told: dict[str, list[ChangeRecord]] = {}
        for name, record in connection.execute(query):
            told.setdefault(name, []).append(msgspec.convert(record, ChangeRecord))
        rows = {row[0]: row[1:] for row in connection.execute("SELECT id, terms_revision, life FROM subscriptions")}
    assert [record.change for record in told["sub_1"]] == [
        Create(
            customer_id="cus_1", plan_version_id="plv_1", currency="EUR", billing="calendar", timezone="Europe/Oslo"
        ),
        Activate(trial_end_at=datetime.fromisoformat(start)),
    ]
    assert isinstance(told["sub_2"][2].change, Cancel)
    assert rows == {"sub_1": (2, None), "sub_2": (3, None)}
    for name, end_at in (("sub_1", None), ("sub_2", datetime.fromisoformat(end))):
        life = fold(told[name])
        assert is_plain(life)
        assert (life.start_at, life.created_at) == (datetime.fromisoformat(start), datetime.fromisoformat(made))
        assert (None if life.cancellation is None else life.cancellation.end_at) == end_at


def upgrade_to(settings: PostgresSettings, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.set_main_option("path_separator", "os")
    engine = create_engine(sync_url(settings))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


SUBSCRIBED = """
    WITH plan AS (
        INSERT INTO plans (id, tenant, environment, key, name, currency)
        VALUES ('pla_1', 'acme', 'live', 'pro', '', 'EUR') RETURNING id
    ), version AS (
        INSERT INTO plan_versions (id, plan_id, version, status) SELECT 'plv_1', id, 1, 'published' FROM plan RETURNING id
    ), customer AS (
        INSERT INTO customers (id, tenant, environment, known_in) VALUES ('cus_1', 'acme', 'live', 0) RETURNING id
    )
    INSERT INTO subscriptions (id, tenant, environment, customer_id, plan_version_id, status, billing, timezone, start_at,
        end_at, anchor_at, closed_to, created_at)
    SELECT named.id, 'acme', 'live', customer.id, version.id, 'active', 'calendar', 'Europe/Oslo', begun.at, named.end_at,
        begun.at, begun.at, CAST(%(made)s AS timestamptz)
    FROM customer, version, (SELECT CAST(%(start)s AS timestamptz) AS at) AS begun,
        (VALUES ('sub_1', NULL), ('sub_2', CAST(%(end)s AS timestamptz))) AS named (id, end_at)
"""
