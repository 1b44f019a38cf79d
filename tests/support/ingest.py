"""What the tests of the ingest path share: the stores they look at, and the events, records and catalogs they send."""

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from domain.events import encode_event
from domain.identity import event_identity, partition_of
from runtime.settings import Settings, load_settings
from schemas.catalog import CatalogChange, CatalogVersion
from schemas.deltas import BlockDeltas
from schemas.events import UsageEvent
from schemas.meters import Meter
from schemas.topics import USAGE_DELTAS, USAGE_RAW
from stores.clickhouse.client import ClickhouseClient
from stores.postgres.engine import create_engine
from stores.postgres.ledger import Ledger
from stores.topics import recorded_ids
from tests.support.pipeline import Record, end_offsets, read_topic

PARTITIONS = 4
TENANT, ENVIRONMENT = "acme", "live"
NOW = datetime.now(UTC)  # noqa: TID251 - the servers' clocks judge the events


class Stack:
    """What the tests look at."""

    def __init__(self, settings: Settings, topic_id: str, ledger: Ledger, clickhouse: ClickhouseClient) -> None:
        self.settings = settings
        self.topic_id = topic_id
        self.ledger = ledger
        self.clickhouse = clickhouse
        self.bootstrap = settings.kafka.bootstrap

    async def rows(self, sql: str) -> list[Any]:
        return list(await self.clickhouse.rows(sql))

    async def count(self, table: str) -> int:
        return int((await self.rows(f"SELECT count() FROM {table}"))[0][0])

    async def is_done(self) -> bool:
        """Whether the ledger has reached the end of the log."""
        done = await self.ledger.done_vector(self.topic_id)
        ends = await end_offsets(self.bootstrap, USAGE_RAW, PARTITIONS)
        return all(done[number] == end - 1 for number, end in ends.items())

    async def is_told(self) -> bool:
        """Whether each delta partition has the deltas of every block that is done."""
        reached: defaultdict[int, dict[int, int]] = defaultdict(dict)
        for number, deltas in await _block_deltas(self):
            reached[number][deltas.partition] = max(deltas.last_offset, reached[number].get(deltas.partition, -1))
        done = {number: last for number, last in (await self.ledger.done_vector(self.topic_id)).items() if last >= 0}
        return all(reached[number] == done for number in range(self.settings.kafka.balance_partitions))


@asynccontextmanager
async def connected(environ: Mapping[str, str]) -> AsyncIterator[Stack]:
    """The stores under these settings, migrated before."""
    settings = load_settings(environ)
    engine = create_engine(settings.postgres)
    clickhouse = ClickhouseClient(settings.clickhouse)
    topic_id = (await recorded_ids(engine))[USAGE_RAW]
    yield Stack(settings, topic_id, Ledger(engine), clickhouse)
    await clickhouse.close()
    await engine.dispose()


def event(number: int, event_type: str = "call") -> UsageEvent:
    return UsageEvent(
        id=f"e{number}",
        type=event_type,
        customer=f"c{number % 7}",  # c5 and c6 are nobody's
        time=NOW - timedelta(seconds=number * 7),
        properties={
            "region": ("eu", "us")[number % 2],
            "bytes": Decimal(number) / 8,
            "user": f"u{number % 50}",
            "seconds": number,
        },
    )


def identity(one: UsageEvent) -> bytes:
    return event_identity(TENANT, ENVIRONMENT, one.source, one.id)


def home(one: UsageEvent) -> int:
    return partition_of(identity(one), PARTITIONS)


def headers(version: int) -> list[tuple[str, bytes]]:
    received = int(NOW.timestamp() * 1000)
    return [
        ("tenant", TENANT.encode()),
        ("environment", ENVIRONMENT.encode()),
        ("received_at_ms", b"%d" % received),
        ("format", b"1"),
        ("version", b"%d" % version),
    ]


def array(events: list[UsageEvent]) -> bytes:
    return b"[" + b",".join(encode_event(one) for one in events) + b"]"


def records_of(events: list[UsageEvent], version: int, seed: int) -> list[Record]:
    """Each event twice, shuffled, in records of 1 to 40 events of one partition."""
    chance = random.Random(seed)
    copies = events * 2
    chance.shuffle(copies)
    by_home: defaultdict[int, list[UsageEvent]] = defaultdict(list)
    for one in copies:
        by_home[home(one)].append(one)
    records: list[Record] = []
    for number, own in by_home.items():
        while own:
            size = chance.randint(1, 40)
            records.append((number, array(own[:size]), headers(version)))
            own[:size] = []
    chance.shuffle(records)
    return records


def catalog(version: int, meters: list[Meter]) -> bytes:
    return msgspec.json.encode(catalog_version(version, meters))


def catalog_version(version: int, meters: list[Meter]) -> CatalogVersion:
    changes = [
        CatalogChange(
            kind="meter", tenant=TENANT, environment=ENVIRONMENT, key=meter.id, body=msgspec.to_builtins(meter)
        )
        for meter in meters
    ]
    if version == 1:
        changes += [
            CatalogChange(
                kind="customer",
                tenant=TENANT,
                environment=ENVIRONMENT,
                key=f"cus_{number}",
                body={"id": f"cus_{number}", "references": [f"cus_{number}", f"c{number}"]},
            )
            for number in range(5)
        ]
    return CatalogVersion(version=version, changes=changes)


async def _block_deltas(stack: Stack) -> list[tuple[int, BlockDeltas]]:
    """Every delta record of a block with its delta partition, in order; some of them more than once."""
    decoder = msgspec.json.Decoder(BlockDeltas)
    records = await read_topic(stack.bootstrap, USAGE_DELTAS, stack.settings.kafka.balance_partitions)
    told = [(record.partition, decoder.decode(record.value)) for record in records]
    return [(number, deltas) for number, deltas in told if not deltas.is_tick]


async def deltas_of(stack: Stack) -> list[BlockDeltas]:
    """Every delta record of a block once, after a check that each delta partition has them all, in order (protocol 22)."""
    applied: dict[tuple[int, int], int] = {}
    found: list[BlockDeltas] = []
    for number, deltas in await _block_deltas(stack):
        key = (number, deltas.partition)
        last = applied.get(key, -1)
        if deltas.last_offset <= last:
            continue
        assert deltas.first_offset == last + 1
        applied[key] = deltas.last_offset
        found.append(deltas)
    assert {applied[key] for key in applied if key[1] == 0} == {(await stack.ledger.done_vector(stack.topic_id))[0]}
    return found
