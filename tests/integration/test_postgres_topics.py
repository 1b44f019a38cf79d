"""Topics on a real broker: created as they must be, refused when they differ, known by their ids."""

import uuid
from collections.abc import AsyncIterator, Iterator

import msgspec
import psycopg
import pytest
from confluent_kafka import Uuid
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its __init__ imports without re-exporting
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.errors import Conflict, Unavailable
from runtime.settings import KafkaSettings, PostgresSettings
from schemas.topics import BALANCES_CHANGELOG, TOPICS, USAGE_DELTAS, USAGE_RAW
from stores.postgres.engine import create_engine
from stores.postgres.ledger import Ledger
from stores.topics import TopicAdmin, checked_topic_ids, migrate_topics, recorded_ids, topic_id_text, wanted_topics
from tests.support.broker import TIMEOUT_S, delete_topics, topics_of
from tests.support.database import database
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def kafka(kafka_bootstrap: str) -> KafkaSettings:
    return KafkaSettings(bootstrap=kafka_bootstrap, raw_partitions=3, balance_partitions=2)


@pytest.fixture(scope="module")
def admin(kafka: KafkaSettings) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka.bootstrap})


@pytest.fixture(scope="module")
def postgres(postgres_url: str) -> Iterator[PostgresSettings]:
    with database(postgres_url, "test_topics") as found:
        yield found


@pytest.fixture
async def engine(postgres: PostgresSettings, kafka: KafkaSettings, admin: AdminClient) -> AsyncIterator[AsyncEngine]:
    """Nothing recorded, none of our topics on the broker."""
    with psycopg.connect(postgres.url.reveal()) as connection:
        connection.execute("TRUNCATE log_topics, ledger_partitions")
    ours = [topic.name for topic in wanted_topics(kafka)]
    delete_topics(admin, ours)
    engine = create_engine(postgres)
    yield engine
    await engine.dispose()
    delete_topics(admin, ours)


def _ours(kafka: KafkaSettings, admin: AdminClient) -> set[str]:
    return {topic.name for topic in wanted_topics(kafka)} & topics_of(admin)


def _create(admin: AdminClient, name: str, partitions: int, config: dict[str, str]) -> None:
    for future in admin.create_topics([NewTopic(name, partitions, 1, config=config)]).values():
        future.result(TIMEOUT_S)
    eventually(lambda: name in topics_of(admin), within_s=TIMEOUT_S)


async def test_every_topic_is_created_with_its_settings_and_recorded_with_its_id(
    engine: AsyncEngine, kafka: KafkaSettings
) -> None:
    planned = await migrate_topics(engine, kafka, dry_run=True)
    assert {topic.created for topic in planned} == {True}
    assert await TopicAdmin(kafka).find([topic.name for topic in planned]) == {}
    assert await recorded_ids(engine) == {}

    made = await migrate_topics(engine, kafka)
    found = await TopicAdmin(kafka).find([topic.name for topic in made])
    for topic in wanted_topics(kafka):
        assert found[topic.name].partitions == topic.partitions
        assert topic.config.items() <= found[topic.name].config.items()
    assert {topic.name for topic in made} == {spec.name for spec in TOPICS} | {BALANCES_CHANGELOG}
    assert found[USAGE_RAW].config["message.timestamp.type"] == "LogAppendTime"
    assert (found[USAGE_RAW].partitions, found[USAGE_DELTAS].partitions) == (3, 2)
    assert found[BALANCES_CHANGELOG].partitions == 2
    ids = {topic.name: topic.topic_id for topic in made}
    assert await recorded_ids(engine) == ids
    assert len(set(ids.values())) == len(ids)
    assert all(len(one) == 22 and one.replace("-", "").replace("_", "").isalnum() for one in ids.values())
    assert await Ledger(engine).done_vector(ids[USAGE_RAW]) == {0: -1, 1: -1, 2: -1}

    again = await migrate_topics(engine, kafka)
    assert {topic.name: topic.topic_id for topic in again} == ids
    assert {topic.created for topic in again} == {False}
    assert await checked_topic_ids(engine, kafka) == ids


async def test_a_topic_with_another_setting_is_refused_with_the_difference_and_the_mend(
    engine: AsyncEngine, kafka: KafkaSettings, admin: AdminClient
) -> None:
    _create(admin, USAGE_RAW, 3, {"message.timestamp.type": "CreateTime"})
    with pytest.raises(Conflict) as refusal:
        await migrate_topics(engine, kafka)
    assert refusal.value.code == "topic_differs"
    assert "message.timestamp.type is 'CreateTime' and must be 'LogAppendTime'" in refusal.value.message
    assert "--add-config" in refusal.value.message
    assert _ours(kafka, admin) == {USAGE_RAW}, "refused before anything was created"

    resource = ConfigResource(ResourceType.TOPIC, USAGE_RAW)
    (wanted,) = [topic for topic in wanted_topics(kafka) if topic.name == USAGE_RAW]
    for name, value in wanted.config.items():
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource.add_incremental_config(entry)
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(TIMEOUT_S)
    made = {topic.name: topic.created for topic in await migrate_topics(engine, kafka)}
    assert not made.pop(USAGE_RAW)
    assert all(made.values())


async def test_a_topic_with_other_partitions_is_refused(
    engine: AsyncEngine, kafka: KafkaSettings, admin: AdminClient
) -> None:
    await migrate_topics(engine, kafka)
    for more in (
        msgspec.structs.replace(kafka, raw_partitions=7),
        msgspec.structs.replace(kafka, balance_partitions=7),
    ):
        for refused in (migrate_topics(engine, more), checked_topic_ids(engine, more)):
            with pytest.raises(Conflict, match="partitions, the settings say 7"):
                await refused


async def test_a_topic_that_was_created_again_is_refused_and_so_is_a_lost_one(
    engine: AsyncEngine, kafka: KafkaSettings, admin: AdminClient
) -> None:
    await migrate_topics(engine, kafka)
    delete_topics(admin, [USAGE_DELTAS])
    for refused in (migrate_topics(engine, kafka), checked_topic_ids(engine, kafka)):
        with pytest.raises(Conflict) as lost:
            await refused
        assert lost.value.code == "topic_lost"
    (wanted,) = [topic for topic in wanted_topics(kafka) if topic.name == USAGE_DELTAS]
    _create(admin, USAGE_DELTAS, wanted.partitions, wanted.config)
    for refused in (migrate_topics(engine, kafka), checked_topic_ids(engine, kafka)):
        with pytest.raises(Conflict) as replaced:
            await refused
        assert replaced.value.code == "topic_replaced"


async def test_a_lost_changelog_is_created_again_and_taken_as_it_is(
    engine: AsyncEngine, kafka: KafkaSettings, admin: AdminClient
) -> None:
    await migrate_topics(engine, kafka)
    former = (await checked_topic_ids(engine, kafka))[BALANCES_CHANGELOG]
    delete_topics(admin, [BALANCES_CHANGELOG])
    with pytest.raises(Conflict, match="meterstream migrate"):
        await checked_topic_ids(engine, kafka)
    await migrate_topics(engine, kafka)
    assert (await checked_topic_ids(engine, kafka))[BALANCES_CHANGELOG] != former


async def test_a_process_that_starts_before_migrate_is_told_so(engine: AsyncEngine, kafka: KafkaSettings) -> None:
    with pytest.raises(Conflict, match="meterstream migrate") as refusal:
        await checked_topic_ids(engine, kafka)
    assert refusal.value.code == "topics_missing"


async def test_a_broker_that_does_not_answer_is_unavailable(engine: AsyncEngine) -> None:
    nowhere = KafkaSettings(bootstrap="127.0.0.1:1", request_timeout_s=1)
    with pytest.raises(Unavailable) as refusal:
        await migrate_topics(engine, nowhere)
    assert refusal.value.code == "kafka_unavailable"
    assert await recorded_ids(engine) == {}


def test_three_brokers_keep_what_one_of_them_loses() -> None:
    for topic in wanted_topics(KafkaSettings(replication_factor=3)):
        assert (topic.replication_factor, topic.config["min.insync.replicas"]) == (3, "2")
        assert topic.config["unclean.leader.election.enable"] == "false"


def test_a_topic_id_is_written_as_kafka_writes_it() -> None:
    bits = uuid.UUID("fbff7e30-0000-4000-8000-ffffffffffff").int
    signed = [value - (1 << 64) if value >> 63 else value for value in (bits >> 64, bits & ((1 << 64) - 1))]
    assert topic_id_text(Uuid(*signed)) == "-_9-MAAAQACAAP_______w"
