"""API keys on a real PostgreSQL, through the store and through the command."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from domain.errors import Invalid, NotFound, Unavailable
from runtime.ids import Ids
from runtime.settings import PostgresSettings, Secret
from stores.postgres.engine import create_engine
from stores.postgres.keys import ApiKeys
from tests.support.database import database

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


class FixedClock:
    def now(self) -> datetime:
        return NOW


@pytest.fixture(scope="module")
def settings(postgres_url: str) -> Iterator[PostgresSettings]:
    with database(postgres_url, "test_keys") as found:
        yield found


@pytest.fixture
async def keys(settings: PostgresSettings) -> AsyncIterator[ApiKeys]:
    with psycopg.connect(settings.url.reveal()) as connection:
        connection.execute("TRUNCATE api_keys")
    engine = create_engine(settings)
    yield ApiKeys(engine, FixedClock(), Ids(FixedClock()))
    await engine.dispose()


async def test_a_key_is_found_by_its_full_text_only(keys: ApiKeys) -> None:
    made, secret = await keys.create("acme", "live", ["usage:read", "events:write"], "till")
    text = secret.reveal()
    assert text.startswith(f"ms_{made.prefix}_")
    assert await keys.find(text) == made
    assert (made.tenant, made.environment, made.scopes) == ("acme", "live", ["events:write", "usage:read"])
    assert made.created_at == NOW
    for wrong in ("", "ms_", text[:-1], f"{text}x", f"ms_{made.prefix}_", text.upper(), "ms_" + "x" * 1000, "ms_\x00"):
        assert await keys.find(wrong) is None


async def test_the_database_holds_no_secret(keys: ApiKeys, settings: PostgresSettings) -> None:
    _, secret = await keys.create("acme", "live", ["*"])
    with psycopg.connect(settings.url.reveal()) as connection:
        (row,) = connection.execute("SELECT api_keys::text FROM api_keys").fetchall()
    assert secret.reveal().split("_", 2)[2] not in row[0]
    assert str(secret) == "***"


async def test_a_revoked_key_is_not_found_and_stays_listed_with_its_first_instant(keys: ApiKeys) -> None:
    made, secret = await keys.create("acme", "live", ["*"])
    other, other_secret = await keys.create("other", "live", ["*"])
    gone = await keys.revoke(made.prefix)
    assert gone.revoked_at == NOW
    assert await keys.revoke(made.id) == gone
    assert await keys.find(secret.reveal()) is None
    assert await keys.find(other_secret.reveal()) == other
    assert await keys.list("acme") == [gone]
    assert len(await keys.list()) == 2
    with pytest.raises(NotFound):
        await keys.revoke("nothing")


@pytest.mark.parametrize(
    ("tenant", "environment", "scopes", "code"),
    [
        ("", "live", ["*"], "tenant_invalid"),
        ("a/b", "live", ["*"], "tenant_invalid"),
        ("acme", "LIVE", ["*"], "environment_invalid"),
        ("acme", "live", [], "scope_unknown"),
        ("acme", "live", ["usage:write"], "scope_unknown"),
    ],
)
async def test_a_key_names_a_tenant_an_environment_and_scopes_that_exist(
    keys: ApiKeys, tenant: str, environment: str, scopes: list[str], code: str
) -> None:
    with pytest.raises(Invalid) as refusal:
        await keys.create(tenant, environment, scopes)
    assert refusal.value.code == code


async def test_a_server_that_is_not_there_is_unavailable_and_names_no_password() -> None:
    settings = PostgresSettings(url=Secret("postgresql://meterstream:hush@127.0.0.1:1/none"), connect_timeout_s=2)
    engine = create_engine(settings)
    with pytest.raises(Unavailable) as refusal:
        await ApiKeys(engine, FixedClock(), Ids(FixedClock())).list()
    await engine.dispose()
    assert refusal.value.code == "postgres_unavailable"
    assert "hush" not in refusal.value.message


async def test_a_restart_of_the_server_costs_one_refusal_at_most(keys: ApiKeys, settings: PostgresSettings) -> None:
    await keys.list()
    with psycopg.connect(settings.url.reveal(), autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    with pytest.raises(Unavailable):
        await keys.list()
    assert await keys.list() == []


def _meterstream(settings: PostgresSettings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        env={**os.environ, "METERSTREAM_POSTGRES_URL": settings.url.reveal()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_the_command_creates_lists_and_revokes(keys: ApiKeys, settings: PostgresSettings) -> None:
    made = _meterstream(settings, "key", "create", "--tenant", "acme", "--environment", "test", "--scopes", "admin")
    assert made.returncode == 0, made.stderr
    found = await keys.find(made.stdout.strip())
    assert found is not None
    assert (found.tenant, found.environment, found.scopes) == ("acme", "test", ["admin"])
    listed = _meterstream(settings, "key", "list", "--json")
    assert [row["id"] for row in json.loads(listed.stdout)] == [found.id]
    assert made.stdout.strip() not in listed.stdout
    assert _meterstream(settings, "key", "revoke", found.id).returncode == 0
    assert await keys.find(made.stdout.strip()) is None
    refused = _meterstream(settings, "key", "revoke", "nothing")
    assert (refused.returncode, "key_not_found" in refused.stderr) == (2, True)
