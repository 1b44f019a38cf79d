"""How Alembic runs our migrations: on the connection it is given, one transaction for all, one runner at a time."""

from alembic import context
from sqlalchemy import Connection, text

from stores.postgres.all_tables import metadata

# Any number that nobody else uses: two `migrate` at once, and the second finds nothing left to do.
MIGRATION_LOCK = 6_307_110_214


def _run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        context.run_migrations()


_run(context.config.attributes["connection"])
