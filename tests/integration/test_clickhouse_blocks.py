"""A block's insert: once under its token, refused after its deadline, and its tables as migrations leave them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest

from domain.errors import Unavailable
from runtime.clock import SystemClock
from runtime.settings import ClickhouseSettings, KafkaSettings, Secret, Settings
from schemas.blocks import StoredColumns
from stores.clickhouse.blocks import DeadlinePassed, event_years, insert_block, schema_differences
from stores.clickhouse.client import ClickhouseClient, ClickhouseError
from stores.clickhouse.migrations import DIRECTORY, MigrationError, Migrations
from stores.clickhouse.tokens import TokenWindowTooSmallError, check_token_windows, read_token_windows, token_windows
from tests.support.clickhouse import empty_database, migrated_database
from tests.support.usage_events import TestEvent, encoded, random_events

START = datetime(2025, 12, 30, tzinfo=UTC)
TOKENS = token_windows(Settings())


@pytest.fixture
async def client(clickhouse_url: str) -> AsyncIterator[ClickhouseClient]:
    async with migrated_database(clickhouse_url, "blocks") as client:
        yield client


@pytest.fixture
async def empty(clickhouse_url: str) -> AsyncIterator[ClickhouseClient]:
    async with empty_database(clickhouse_url, "migrations") as client:
        yield client


def block(count: int = 40) -> list[TestEvent]:
    """One block over the turn of a year: the view's output lies in two partitions."""
    return random_events(Random(1), count, START, timedelta(days=4), ("acme",), per_block=count)


async def insert(client: ClickhouseClient, events: list[TestEvent], *, token: str = "", late_s: float = 0) -> None:
    batch, constants = encoded(events)
    before = SystemClock().now() + timedelta(seconds=30 - late_s)
    await insert_block(client, batch, token=token or constants.token, cut=1, insert_before=before, deadline_s=30)


async def counted(client: ClickhouseClient) -> tuple[int, int]:
    events = (await client.rows("SELECT count() FROM blocks.events"))[0][0]
    return events, (await client.rows("SELECT sum(matches) FROM blocks.usage_windows"))[0][0]


async def test_a_repeated_insert_changes_neither_events_nor_windows(client: ClickhouseClient) -> None:
    events = block()
    await insert(client, events)
    once = await counted(client)
    assert once[0] == len(events)
    assert once[1] > len(events)
    for _ in range(3):
        await insert(client, events)
    assert await counted(client) == once
    await insert(client, events, token="another")
    assert await counted(client) == (2 * once[0], 2 * once[1])


async def test_a_block_is_one_part_of_events(client: ClickhouseClient) -> None:
    await insert(client, block(3000))
    parts = await client.rows(
        "SELECT rows FROM system.parts WHERE database = 'blocks' AND table = 'events' AND level = 0 ORDER BY rows"
    )
    assert [rows for (rows,) in parts] == [3000]


async def test_an_insert_after_its_deadline_writes_nothing(client: ClickhouseClient) -> None:
    with pytest.raises(DeadlinePassed):
        await insert(client, block(), late_s=31)
    assert await counted(client) == (0, 0)
    await insert(client, block())  # the refused attempt has not used the token up
    assert (await counted(client))[0] == 40


async def test_a_batch_fits_the_table_and_an_unfit_value_is_found_before_the_insert(client: ClickhouseClient) -> None:
    assert await schema_differences(client) == []
    events = block(2)
    wrong = TestEvent(**{name: getattr(events[0], name) for name in TestEvent.__struct_fields__} | {"offset": -1})
    with pytest.raises((pa.ArrowInvalid, OverflowError)):
        encoded([wrong])


async def test_a_block_knows_how_many_years_it_touches() -> None:
    _, constants = encoded(block())
    assert constants.token == "topic-1/0/0-0"
    ends = [datetime(year, 12, 31, 23, 59, tzinfo=UTC) for year in (2024, 2025, 2025, 2026)]
    columns = StoredColumns(time_ms=[int(end.timestamp() * 1000) for end in ends])
    assert event_years(columns) == 3


async def test_errors_keep_the_servers_code_and_silence_is_unavailable(client: ClickhouseClient) -> None:
    with pytest.raises(ClickhouseError) as refused:
        await client.rows("SELECT nothing_of_that_name")
    assert refused.value.code == 47
    away = ClickhouseClient(ClickhouseSettings(url=Secret("http://127.0.0.1:1")))
    with pytest.raises(Unavailable):
        await away.rows("SELECT 1")
    assert await away.ping() is False
    assert await client.ping() is True
    await away.close()


async def test_from_empty_to_head_and_again_without_a_change(empty: ClickhouseClient) -> None:
    migrations = Migrations(empty, TOKENS, SystemClock())
    assert {one.state for one in await migrations.status()} == {"pending"}
    waiting = await migrations.pending()
    assert (await empty.rows("SELECT count() FROM system.tables WHERE database = 'migrations'"))[0][0] == 0
    done = await migrations.apply()
    assert [one.version for one in done] == [migration.version for migration, _ in waiting]
    before = await empty.rows("SELECT name, create_table_query FROM system.tables WHERE database = 'migrations'")
    assert await migrations.apply() == []
    assert (
        await empty.rows("SELECT name, create_table_query FROM system.tables WHERE database = 'migrations'") == before
    )
    assert {one.state for one in await migrations.status()} == {"applied"}


async def test_an_interrupted_migration_is_visible_and_resumes(empty: ClickhouseClient, tmp_path: Path) -> None:
    for path in DIRECTORY.glob("*.sql"):
        (tmp_path / path.name).write_text(path.read_text())
    broken = tmp_path / "0004_event_outcomes.sql"
    whole = broken.read_text()
    broken.write_text(whole.replace("CREATE TABLE IF NOT EXISTS {database}.events_rejected", "CREATE NONSENSE"))
    with pytest.raises(ClickhouseError):
        await Migrations(empty, TOKENS, SystemClock(), tmp_path).apply()
    broken.write_text(whole)
    migrations = Migrations(empty, TOKENS, SystemClock(), tmp_path)
    assert [one.state for one in await migrations.status()][:4] == ["applied", "applied", "applied", "interrupted"]
    assert [one.version for one in await migrations.apply()] == [4, 6]
    assert {one.state for one in await migrations.status()} == {"applied"}


async def test_a_changed_or_unknown_migration_is_refused(empty: ClickhouseClient, tmp_path: Path) -> None:
    await Migrations(empty, TOKENS, SystemClock()).apply()
    for path in DIRECTORY.glob("*.sql"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "0002_usage_windows.sql").write_text("SELECT 1")
    with pytest.raises(MigrationError, match="0002_usage_windows"):
        await Migrations(empty, TOKENS, SystemClock(), tmp_path).apply()
    older = tmp_path / "older"
    older.mkdir()
    (older / "0001_events.sql").write_text((DIRECTORY / "0001_events.sql").read_text())
    with pytest.raises(MigrationError, match="newer"):
        await Migrations(empty, TOKENS, SystemClock(), older).status()


async def test_token_windows_grow_with_the_settings_and_are_checked(empty: ClickhouseClient) -> None:
    await Migrations(empty, TOKENS, SystemClock()).apply()
    await check_token_windows(empty, TOKENS)
    more = token_windows(Settings(kafka=KafkaSettings(raw_partitions=64)))
    with pytest.raises(TokenWindowTooSmallError):
        await check_token_windows(empty, more)
    await Migrations(empty, more, SystemClock()).apply()
    await check_token_windows(empty, more)
    await Migrations(empty, TOKENS, SystemClock()).apply()
    assert await read_token_windows(empty) == {"events": more.events, "usage_windows": more.windows}
