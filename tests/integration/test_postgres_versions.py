"""Versions of plans and add-ons in PostgreSQL, as decisions about subscriptions read them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import psycopg
import pytest
import pytest_asyncio
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from msgspec.structs import replace
from sqlalchemy import create_engine as sync_engine
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.errors import Conflict, NotFound
from domain.plan_versions import version_of
from schemas.addons import Addon
from schemas.entitlements import BooleanEntitlement
from schemas.plan_phases import Phase
from schemas.plans import Plan
from schemas.prices import FlatPrice, PlanPrice
from schemas.scope import Scope
from stores.postgres.addons import addon_versions_by_id, create_addon, get_addon, insert_addon_version, list_addons
from stores.postgres.engine import create_engine, sync_url, transaction
from stores.postgres.migrations import SCRIPTS, migrate
from stores.postgres.plans import create_plan, plan_version_cards
from stores.postgres.tables import plan_versions
from tests.support.database import database
from tests.support.lives import MONTH, addon, fee

SCOPE = Scope("acme", "live")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
PLAN = Plan(
    id="pla_1",
    key="basic",
    name="Basic",
    currency="USD",
    version=1,
    version_id="plv_1",
    status="published",
    cadence="quarter",
    prices=(PlanPrice(id="pri_1", key="fee", currency="USD", price=FlatPrice(amount=Decimal("9.90"))),),
    entitlements=(BooleanEntitlement(feature="fea_1"),),
    revision=1,
    created_at=NOW,
    archived_at=None,
)
ADDON = replace(addon("storage", fee("space", "5"), most=3, plans=("basic",)), addon_id="add_1", status="published")
HEAD = Addon(
    id="add_1",
    key="storage",
    name="",
    currency="USD",
    version=1,
    version_id=ADDON.id,
    status="published",
    max_quantity=3,
    plans=("basic",),
    rate_cards=ADDON.rate_cards,
    entitlements=(),
    revision=1,
    created_at=NOW,
    archived_at=None,
)


SOLD_BEFORE = """
    WITH plan AS (
        INSERT INTO plans (id, tenant, environment, key, name, currency)
        VALUES ('pla_1', 'acme', 'live', 'pro', '', 'EUR') RETURNING id
    )
    INSERT INTO plan_versions (id, plan_id, version, status, created_at)
    SELECT 'plv_1', id, 1, 'published', CAST(:at AS timestamptz) FROM plan
"""


@pytest_asyncio.fixture
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    with database(postgres_url, "test_versions") as settings:
        made = create_engine(settings)
        async with transaction(made) as conn:
            await conn.execute(
                text(
                    "INSERT INTO features (id, tenant, environment, key, name, kind)"
                    " VALUES ('fea_1', 'acme', 'live', 'sso', '', 'boolean')"
                )
            )
            await create_plan(conn, SCOPE, PLAN)
        yield made
        await made.dispose()


def test_versions_of_before_were_published_when_they_were_made(postgres_url: str) -> None:
    with database(postgres_url, "test_versions_of_before", migrated=False) as settings:
        before = str(ScriptDirectory(str(SCRIPTS)).get_revision("0005").down_revision)
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS))
        config.set_main_option("path_separator", "os")
        made = sync_engine(sync_url(settings))
        with made.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, before)
            connection.execute(text(SOLD_BEFORE), {"at": NOW})
        made.dispose()
        migrate(settings)
        with psycopg.connect(settings.url.reveal()) as connection:
            query = "SELECT published_at, archived_at, phases, level, revision FROM plan_versions"
            assert connection.execute(query).fetchall() == [(NOW, None, None, 0, 1)]


async def test_a_plan_without_phases_is_read_as_one_phase_of_its_prices(engine: AsyncEngine) -> None:
    async with transaction(engine) as conn:
        found = await plan_version_cards(conn, ["plv_1", "plv_none"])
        assert list(found) == ["plv_1"]
        kept, meant = found["plv_1"], version_of(PLAN)
        for field in meant.__struct_fields__:
            assert getattr(kept, field) == getattr(meant, field), field
        assert await plan_version_cards(conn, []) == {}


async def test_phases_family_and_level_are_read_as_they_were_kept(engine: AsyncEngine) -> None:
    phases = (Phase(key="ramp", duration=MONTH, rate_cards=(fee("fee", "1"),)), Phase(key="standard"))
    async with transaction(engine) as conn:
        values = {"family": "main", "level": 2, "phases": msgspec.to_builtins(phases)}
        await conn.execute(update(plan_versions).where(plan_versions.c.id == "plv_1").values(values))
        read = (await plan_version_cards(conn, ["plv_1"]))["plv_1"]
    assert (read.phases, read.family, read.level) == (phases, "main", 2)


async def test_an_add_on_is_read_at_its_newest_published_version_and_by_the_ids_of_all(engine: AsyncEngine) -> None:
    later = [replace(ADDON, id=f"adv_{number}", version=number) for number in (2, 3)]
    async with transaction(engine) as conn:
        await create_addon(conn, SCOPE, ADDON, NOW)
        await insert_addon_version(conn, later[0], NOW)
        await insert_addon_version(conn, replace(later[1], status="draft"), NOW)
        kept = await get_addon(conn, SCOPE, "storage")
        assert kept == replace(HEAD, version=2, version_id="adv_2")
        assert await list_addons(conn, SCOPE, limit=5, after=None) == [kept]
        found = await addon_versions_by_id(conn, [ADDON.id, "adv_3", "adv_9"])
    assert {one: version.status for one, version in found.items()} == {ADDON.id: "published", "adv_3": "draft"}
    assert found[ADDON.id].rate_cards == ADDON.rate_cards
    assert (found["adv_3"].addon_key, found["adv_3"].max_quantity, found["adv_3"].plans) == ("storage", 3, ("basic",))


async def test_an_add_on_is_of_one_tenant_and_its_key_is_taken_once(engine: AsyncEngine) -> None:
    async with transaction(engine) as conn:
        with pytest.raises(NotFound, match="storage") as missing:
            await get_addon(conn, SCOPE, "storage")
    assert missing.value.code == "addon_not_found"
    async with transaction(engine) as conn:
        await create_addon(conn, SCOPE, ADDON, NOW)
    with pytest.raises(Conflict) as taken:
        async with transaction(engine) as conn:
            await create_addon(conn, SCOPE, replace(ADDON, id="adv_9", addon_id="add_2"), NOW)
    assert taken.value.code == "addon_key_taken"
    async with transaction(engine) as conn:
        with pytest.raises(NotFound):
            await get_addon(conn, Scope("acme", "test"), "storage")
