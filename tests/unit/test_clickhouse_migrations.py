"""What the runner makes of the files: for one server and for a cluster."""

from pathlib import Path

import pytest

from runtime.settings import IngestSettings, KafkaSettings, Settings
from stores.clickhouse.migrations import Migration, MigrationError, Target, load_migrations, render
from stores.clickhouse.tokens import MIN_WINDOW, TokenWindows, token_windows

TOKENS = TokenWindows(events=12_345, windows=37_035, kept_s=3600)
SINGLE = Target(database="usage", cluster="", tokens=TOKENS)
CLUSTER = Target(database="usage", cluster="blue", tokens=TOKENS)


def rendered(target: Target) -> list[str]:
    migrations = load_migrations(cluster=bool(target.cluster))
    return [statement for migration in migrations for statement in render(migration, target)]


def test_no_placeholder_is_left_and_every_statement_can_be_repeated() -> None:
    for target in (SINGLE, CLUSTER):
        for statement in rendered(target):
            assert "IF NOT EXISTS usage." in statement or "ADD COLUMN IF NOT EXISTS" in statement
            assert "{" not in statement.replace("{shard}", "").replace("{replica}", "")


def test_one_server_has_plain_engines_and_its_own_token_window() -> None:
    text = "\n".join(rendered(SINGLE))
    assert "Replicated" not in text
    assert "ON CLUSTER" not in text
    assert "Distributed" not in text
    assert "ENGINE = AggregatingMergeTree\n" in text
    assert "non_replicated_deduplication_window = 12345" in text
    assert "non_replicated_deduplication_window = 37035" in text


def test_a_cluster_has_replicated_engines_windows_in_seconds_and_tables_over_all_shards() -> None:
    statements = rendered(CLUSTER)
    assert all(" ON CLUSTER 'blue'" in statement for statement in statements)
    text = "\n".join(statements)
    for table, engine in (
        ("events", "MergeTree"),
        ("usage_windows", "AggregatingMergeTree"),
        ("event_duplicates", "ReplacingMergeTree"),
        ("events_rejected", "ReplacingMergeTree"),
    ):
        path = f"('/clickhouse/tables/{{shard}}/usage/{table}', '{{replica}}')"
        assert f"ENGINE = Replicated{engine}{path}" in text
        assert f"usage.{table}_all ON CLUSTER 'blue' AS usage.{table}" in text
        assert f"Distributed('blue', 'usage', '{table}')" in text
    assert "replicated_deduplication_window = 12345, replicated_deduplication_window_seconds = 3600" in text


def test_a_gap_or_an_odd_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0001_first.sql").write_text("SELECT 1")
    (tmp_path / "0003_third.sql").write_text("SELECT 1")
    with pytest.raises(MigrationError, match="without gaps"):
        load_migrations(tmp_path, cluster=False)
    (tmp_path / "0003_third.sql").rename(tmp_path / "second.sql")
    with pytest.raises(MigrationError, match="is named like"):
        load_migrations(tmp_path, cluster=False)


def test_the_checksum_is_of_the_file_not_of_the_settings_that_fill_it() -> None:
    migration = Migration(version=1, name="a", text="CREATE TABLE {database}.t{on_cluster}")
    assert render(migration, SINGLE) != render(migration, CLUSTER)
    assert migration.checksum == Migration(version=1, name="a", text=migration.text).checksum
    assert migration.checksum != Migration(version=1, name="a", text=f"{migration.text} ").checksum


def test_token_windows_cover_two_horizons_of_blocks_of_all_partitions() -> None:
    # protocol 1: 64 partitions x 4 blocks/s x 2 x 300 s
    busy = token_windows(Settings(kafka=KafkaSettings(raw_partitions=64)))
    assert busy == TokenWindows(events=153_600, windows=460_800, kept_s=3600)
    assert token_windows(Settings()).events == 24_000  # 4 partitions x 10 blocks/s x 2 x 300 s
    quiet = token_windows(Settings(kafka=KafkaSettings(raw_partitions=1)))
    assert quiet.events == MIN_WINDOW
    slow = token_windows(Settings(ingest=IngestSettings(token_horizon_s=3000.0)))
    assert slow.kept_s == 12_000
