"""The topics: created with their settings, refused when they differ, and known by their ids.

A topic's id is its UUID: a re-created topic uses its offsets again, so positions are (topic id, ...) and a topic whose id
is not the recorded one stops everything (protocol 5).
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its __init__ imports without re-exporting
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.errors import Conflict, Unavailable
from runtime.settings import KafkaSettings
from schemas.topics import BALANCES_CHANGELOG, HOUR_MS, TOPICS, USAGE_RAW, USAGE_REJECTED
from stores.postgres.engine import autocommit, transaction
from stores.postgres.log_tables import ledger_partitions, log_topics

SERVICE = "kafka"
DESCRIBE_BATCH_TIMEOUT_FACTOR = 3

_URL_SAFE = str.maketrans("+/", "-_", "=")
# What can be made again from the other topics and the stores: created anew when it was lost, and taken as it is then.
_DERIVED = frozenset({BALANCES_CHANGELOG})
_CHANGELOG_CONFIG = {"cleanup.policy": "compact", "min.compaction.lag.ms": str(HOUR_MS)}


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """A topic as it must be."""

    name: str
    partitions: int
    replication_factor: int
    config: dict[str, str]


class FoundTopic(msgspec.Struct, frozen=True, kw_only=True):
    """A topic as it is; `config` holds every setting the broker tells."""

    name: str
    topic_id: str
    partitions: int
    config: dict[str, str]


class TopicStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`topic_id` is "" for a topic that is not there yet; `created` says that this run made it."""

    name: str
    partitions: int
    topic_id: str
    created: bool


def wanted_topics(settings: KafkaSettings) -> list[Topic]:
    """Every topic of this deployment, Faust's changelog too: it must have its source's partitions (protocol 22)."""
    by_name = {USAGE_RAW: settings.raw_partitions, USAGE_REJECTED: settings.raw_partitions}
    # protocol 17: with three brokers an acknowledged record survives the loss of one, and no stale replica leads.
    safety = {
        "min.insync.replicas": str(max(1, settings.replication_factor - 1)),
        "unclean.leader.election.enable": "false",
    }
    found = [
        Topic(
            name=spec.name,
            partitions=spec.partitions or by_name.get(spec.name, settings.balance_partitions),
            replication_factor=settings.replication_factor,
            config={**safety, **spec.config},
        )
        for spec in TOPICS
    ]
    changelog = Topic(
        name=BALANCES_CHANGELOG,
        partitions=settings.balance_partitions,
        replication_factor=settings.replication_factor,
        # protocol 9: as the state topics, the greatest version must outlive the longest pause of a worker.
        config={**safety, **_CHANGELOG_CONFIG},
    )
    return [*found, changelog]


def topic_id_text(topic_id: Any) -> str:
    """A topic's UUID as Kafka itself writes it: 22 characters of base64url (librdkafka's own text has `/` and `+`)."""
    return str(topic_id).translate(_URL_SAFE)


class TopicAdmin:
    """librdkafka's admin client: aiokafka's does not know topic ids. Its futures block, so they wait in a thread."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._timeout_s = settings.request_timeout_s
        self._bootstrap = settings.bootstrap
        self._client = AdminClient({"bootstrap.servers": settings.bootstrap, "log_level": 0})

    async def find(self, names: Sequence[str]) -> dict[str, FoundTopic]:
        """The topics that exist, by name. Raises `Unavailable`."""
        return await asyncio.to_thread(self._find, list(names))

    async def create(self, topics: Sequence[Topic]) -> None:
        """Create them. Idempotency key: the name; one that was made meanwhile is compared by the caller afterwards."""
        if topics:
            await asyncio.to_thread(self._create, list(topics))

    def _find(self, names: list[str]) -> dict[str, FoundTopic]:
        described = self._client.describe_topics(TopicCollection(names), request_timeout=self._timeout_s)
        found = {name: topic for name, topic in ((name, self._known(one)) for name, one in described.items()) if topic}
        if not found:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in found]
        configs = self._client.describe_configs(resources, request_timeout=self._timeout_s)
        values = {
            resource.name: {entry.name: str(entry.value) for entry in self._result(future).values()}
            for resource, future in configs.items()
        }
        return {
            name: FoundTopic(
                name=name, topic_id=topic_id_text(topic.topic_id), partitions=len(topic.partitions), config=values[name]
            )
            for name, topic in found.items()
        }

    def _create(self, topics: list[Topic]) -> None:
        new = [
            NewTopic(
                topic.name,
                num_partitions=topic.partitions,
                replication_factor=topic.replication_factor,
                config=topic.config,
            )
            for topic in topics
        ]
        for name, future in self._client.create_topics(new, operation_timeout=self._timeout_s).items():
            try:
                future.result(self._timeout_s)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise self._unavailable(error, f"{name} cannot be created") from error
            except TimeoutError as error:
                raise self._unavailable(error, f"{name} was not created in time") from error

    def _known(self, future: Any) -> Any:
        """A description, or None for a topic that is not there."""
        try:
            return self._result(future)
        except Unavailable as error:
            cause = error.__cause__
            if isinstance(cause, KafkaException) and cause.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise

    def _result(self, future: Any) -> Any:
        try:
            return future.result(self._timeout_s * DESCRIBE_BATCH_TIMEOUT_FACTOR)
        except (KafkaException, TimeoutError) as error:
            raise self._unavailable(error, "topics cannot be described") from error

    def _unavailable(self, error: Exception, what: str) -> Unavailable:
        return Unavailable(SERVICE, f"Kafka at {self._bootstrap}: {what}: {error}")


async def migrate_topics(engine: AsyncEngine, settings: KafkaSettings, *, dry_run: bool = False) -> list[TopicStatus]:
    """Create what is missing, refuse what differs, record ids, make the ledger's partition rows. Nothing in a dry run.

    Idempotency key: the topic's name. Raises `Conflict` (`topic_lost`, `topic_replaced`, `topic_differs`) with what
    differs and how to mend it, before anything is changed; `Unavailable`.
    """
    admin = TopicAdmin(settings)
    wanted = wanted_topics(settings)
    recorded = await recorded_ids(engine)
    found = await admin.find([topic.name for topic in wanted])
    _refuse(wanted, found, recorded)
    missing = [topic for topic in wanted if topic.name not in found]
    if missing and not dry_run:
        await admin.create(missing)
        found = await _find_all(admin, wanted)
        _refuse(wanted, found, recorded)
    if not dry_run:
        await _record(engine, wanted, found)
    made = {topic.name for topic in missing}
    return [
        TopicStatus(
            name=topic.name,
            partitions=topic.partitions,
            topic_id=found[topic.name].topic_id if topic.name in found else "",
            created=topic.name in made,
        )
        for topic in wanted
    ]


async def recorded_ids(engine: AsyncEngine) -> dict[str, str]:
    """Topic ids by name, as `migrate` recorded them. Raises `Unavailable`."""
    async with autocommit(engine) as connection:
        rows = (await connection.execute(select(log_topics.c.name, log_topics.c.topic_id))).all()
    return {row.name: row.topic_id for row in rows}


async def checked_topic_ids(engine: AsyncEngine, settings: KafkaSettings) -> dict[str, str]:
    """Topic ids by name, asked once at a process' start: Kafka's are the recorded ones, settings too, or `Conflict`.

    A derived topic (Faust's changelog) may have been created anew: its id is Kafka's.

    Raises `Conflict("topics_missing")` before `meterstream migrate` was run.
    """
    wanted = wanted_topics(settings)
    recorded = await recorded_ids(engine)
    unknown = [topic.name for topic in wanted if topic.name not in recorded]
    if unknown:
        raise Conflict("topics_missing", f"not created yet: {', '.join(unknown)}: run `meterstream migrate`")
    found = await TopicAdmin(settings).find([topic.name for topic in wanted])
    _refuse(wanted, found, recorded)
    lost = sorted(_DERIVED - set(found))
    if lost:
        raise Conflict("topics_missing", f"lost: {', '.join(lost)}: run `meterstream migrate`")
    return {**recorded, **{name: found[name].topic_id for name in _DERIVED}}


async def _find_all(admin: TopicAdmin, wanted: Sequence[Topic]) -> dict[str, FoundTopic]:
    """All of them: a broker may know a topic a moment after the controller has created it."""
    names = [topic.name for topic in wanted]
    for _ in range(50):
        found = await admin.find(names)
        if len(found) == len(names):
            return found
        await asyncio.sleep(0.1)
    raise Unavailable(SERVICE, f"created but not yet known: {', '.join(sorted(set(names) - set(found)))}")


def _refuse(wanted: Sequence[Topic], found: dict[str, FoundTopic], recorded: dict[str, str]) -> None:
    """Raise `Conflict` for the first topic that is not as it must be; a missing one that was never recorded is fine."""
    for topic in wanted:
        existing, known_id = found.get(topic.name), recorded.get(topic.name)
        if existing is None:
            if known_id is not None and topic.name not in _DERIVED:
                raise Conflict(
                    "topic_lost",
                    f"topic {topic.name} is recorded with the id {known_id} but Kafka does not have it: point"
                    " METERSTREAM_KAFKA_BOOTSTRAP at the right cluster, or restore the topic; a new one would use old"
                    " positions again",
                )
            continue
        if known_id is not None and existing.topic_id != known_id and topic.name not in _DERIVED:
            raise Conflict(
                "topic_replaced",
                f"topic {topic.name} has the id {existing.topic_id}, recorded is {known_id}: it was deleted and created"
                " again, and its offsets no longer mean what is stored; start with empty stores, or use the old cluster",
            )
        differences = [mend for mend in (_partitions_differ(topic, existing), _config_differs(topic, existing)) if mend]
        if differences:
            raise Conflict("topic_differs", f"topic {topic.name}: {'; '.join(differences)}")


def _partitions_differ(topic: Topic, existing: FoundTopic) -> str:
    if existing.partitions == topic.partitions:
        return ""
    # protocol 5, 22: another number of partitions moves every identity to another owner.
    return (
        f"it has {existing.partitions} partitions, the settings say {topic.partitions}: set"
        " METERSTREAM_KAFKA_RAW_PARTITIONS or METERSTREAM_KAFKA_BALANCE_PARTITIONS to what it has"
    )


def _config_differs(topic: Topic, existing: FoundTopic) -> str:
    wrong = {
        name: (existing.config.get(name, ""), value)
        for name, value in topic.config.items()
        if existing.config.get(name) != value
    }
    if not wrong:
        return ""
    said = ", ".join(f"{name} is {is_!r} and must be {must!r}" for name, (is_, must) in sorted(wrong.items()))
    mend = ",".join(f"{name}={must}" for name, (_, must) in sorted(wrong.items()))
    return f"{said}: kafka-configs.sh --alter --entity-type topics --entity-name {topic.name} --add-config {mend}"


async def _record(engine: AsyncEngine, wanted: Sequence[Topic], found: dict[str, FoundTopic]) -> None:
    """Ids, and a row for every partition of the log, so that the watermark is defined from the first moment on."""
    topics = [
        {"name": topic.name, "topic_id": found[topic.name].topic_id, "partitions": topic.partitions} for topic in wanted
    ]
    partitions = [
        {"topic_id": found[topic.name].topic_id, "partition": partition}
        for topic in wanted
        if topic.name == USAGE_RAW
        for partition in range(topic.partitions)
    ]
    async with transaction(engine) as connection:
        await connection.execute(insert(log_topics).on_conflict_do_nothing(), topics)
        await connection.execute(insert(ledger_partitions).on_conflict_do_nothing(), partitions)
