"""Random events for tests of usage: the rows that ClickHouse gets, and the same events for a fold in Python."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

import msgspec
import pyarrow as pa

from domain.aggregates import fold
from domain.identity import event_identity
from domain.meters import Match, compile_meters
from schemas.blocks import StoredColumns
from schemas.meters import AggregateState, Aggregation, Meter
from stores.clickhouse.blocks import BlockConstants, encode_block, insert_block
from stores.clickhouse.client import ClickhouseClient

AGGREGATIONS: tuple[Aggregation, ...] = ("count", "sum", "min", "max", "avg", "latest", "unique_count")
METERS = tuple(
    Meter(
        id=f"met_{aggregation}",
        key=aggregation,
        event_types=("call",),
        aggregation=aggregation,
        value_property=None if aggregation == "count" else ("user" if aggregation == "unique_count" else "amount"),
        dimensions=("region",),
    )
    for aggregation in AGGREGATIONS
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TENANT, ENVIRONMENT, TOPIC = "ten", "live", "topic-1"


class TestEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event with its position; `cut` is that of its block."""

    __test__ = False

    id: str
    customer: str
    time: datetime
    amount: Decimal | None
    user: str
    region: str
    partition: int
    offset: int
    index: int
    cut: int

    @property
    def time_ms(self) -> int:
        return (self.time - EPOCH) // timedelta(milliseconds=1)

    @property
    def properties(self) -> dict[str, object]:
        return {"amount": self.amount, "user": self.user, "region": self.region}


LOGGED_MS = 1_790_000_000_000


def random_events(
    random: Random, count: int, start: datetime, span: timedelta, customers: Sequence[str], *, per_block: int = 50
) -> list[TestEvent]:
    """`count` events over `[start, start + span)` in blocks of two partitions, with cuts that grow along positions."""
    events = []
    for number in range(count):
        block = number // per_block
        events.append(
            TestEvent(
                id=f"e{number}",
                customer=random.choice(customers),
                time=start + timedelta(milliseconds=random.randrange(int(span.total_seconds() * 1000))),
                amount=random.choice(
                    [None, Decimal(random.randrange(-5000, 5000)) / 1000, Decimal(random.randrange(10**9))]
                ),
                user=random.choice(["", "ann", "bob", "cyd", "dee", str(random.randrange(40))]),
                region=random.choice(["", "eu", "us"]),
                partition=block % 2,
                offset=block // 2,
                index=number % per_block,
                cut=1 + block // 3,
            )
        )
    return events


def matches_of(event: TestEvent) -> list[Match]:
    return compile_meters(METERS).evaluate("call", event.properties)[0]


def folded(
    events: Sequence[TestEvent], meter: Meter, start: datetime, end: datetime, customers: Sequence[str] | None = None
) -> AggregateState:
    """What `domain/` says about the same events."""
    wanted = METERS.index(meter)
    return fold(
        (match, event.time_ms, (LOGGED_MS + event.offset, event.partition, event.offset, event.index))
        for event in events
        if start <= event.time < end and (customers is None or event.customer in customers)
        for match in matches_of(event)
        if match[0] == wanted
    )


def encoded(events: Sequence[TestEvent]) -> tuple[pa.RecordBatch, BlockConstants]:
    """Events of one partition and cut, as one block."""
    columns = StoredColumns(match_ends=[0], issue_ends=[0])
    for event in events:
        columns.tenant.append(TENANT)
        columns.environment.append(ENVIRONMENT)
        columns.source.append("")
        columns.id.append(event.id)
        columns.type.append("call")
        columns.customer.append(event.customer)
        columns.customer_id.append("")
        columns.time_ms.append(event.time_ms)
        columns.received_at_ms.append(LOGGED_MS)
        columns.logged_at_ms.append(LOGGED_MS + event.offset)
        columns.properties.append(msgspec.json.encode(event.properties))
        columns.identity.append(event_identity(TENANT, ENVIRONMENT, "", event.id))
        columns.offset.append(event.offset)
        columns.index.append(event.index)
        for meter, value, key, dimensions in matches_of(event):
            columns.match_meter.append(METERS[meter].id)
            columns.match_generation.append(1)
            columns.match_value.append(value)
            columns.match_unique_key.append(key)
            columns.match_dimensions.append(dimensions)
        columns.match_ends.append(len(columns.match_meter))
        columns.issue_ends.append(0)
    constants = BlockConstants(
        topic_id=TOPIC,
        partition=events[0].partition,
        first_offset=events[0].offset,
        last_offset=events[-1].offset,
        version=1,
        evaluator=1,
        first_logged_at_ms=LOGGED_MS + events[0].offset,
    )
    return encode_block(columns, constants), constants


async def insert_events(client: ClickhouseClient, events: Sequence[TestEvent], insert_before: datetime) -> None:
    """Every block of `events`, one insert each."""
    blocks: dict[tuple[int, int], list[TestEvent]] = {}
    for event in events:
        blocks.setdefault((event.partition, event.offset), []).append(event)
    for block in blocks.values():
        batch, constants = encoded(block)
        await insert_block(
            client,
            batch,
            token=constants.token,
            cut=block[0].cut,
            insert_before=insert_before,
            deadline_s=30,
        )
