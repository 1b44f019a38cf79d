"""Databases for tests: each file of tests gets one of its own in the shared server, migrated to head."""

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg

from runtime.settings import PostgresSettings, Secret
from stores.postgres.migrations import migrate


@contextlib.contextmanager
def database(postgres_url: str, name: str, *, migrated: bool = True) -> Iterator[PostgresSettings]:
    """Settings of a fresh database called `name`; an older one of that name is dropped first."""
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        admin.execute(f'CREATE DATABASE "{name}"')
    settings = PostgresSettings(url=Secret(urlsplit(postgres_url)._replace(path=f"/{name}").geturl()), pool_size=12)
    if migrated:
        migrate(settings)
    yield settings
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
