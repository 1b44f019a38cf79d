"""What the ingest worker's parts allow, one at a time, on records that it has worked on: its ceilings.

`python -m bench.worker_parts`, with the worker's environment: reads `Asked` as JSON and prints `Answered`. A process of
its own, with the worker's garbage collection, so that what the harness holds does not slow it down.
"""

import asyncio
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import cast

import msgspec
import uvloop
from confluent_kafka import Consumer, Message, TopicPartition

from domain.blocks import window_days
from domain.catalog import Catalog
from domain.records import MS_PER_DAY, LogRecord, read_record
from runtime import garbage
from runtime.clock import SystemClock
from runtime.settings import Settings, load_settings
from schemas.events import UsageEvent
from schemas.topics import USAGE_RAW
from stores.clickhouse.blocks import insert_block
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.migrations import Migrations
from stores.clickhouse.tokens import token_windows
from stores.rocks.filter import DuplicateFilter
from stores.rocks.memory import FilterMemory
from streams.catalog_view import CatalogView
from streams.ingest_block import BlockEvaluator, PreparedBlock
from streams.worker import COLLECTOR_YOUNG

DATABASE = "bench"
WITHIN_S = 60.0
WARM_UPS = 1
_FETCHED, _FETCHED_WITHIN_S = 500, 0.02


class Range(msgspec.Struct, frozen=True):
    """A block as the worker has cut it."""

    partition: int
    first_offset: int
    last_offset: int


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """`blocks` in the order in which they were done."""

    blocks: list[Range]
    repeats: int


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """Events a second, one value a repeat."""

    consume: tuple[float, ...]
    decode: tuple[float, ...]
    loop: tuple[float, ...]
    insert: tuple[float, ...]


Block = tuple[Range, list[LogRecord]]


async def measure(asked: Asked, settings: Settings) -> Answered:
    consumed = [await asyncio.to_thread(consume, settings, asked.blocks) for _ in range(asked.repeats)]
    records = consumed[0][1]
    blocks = [
        (one, [records[one.partition, offset] for offset in range(one.first_offset, one.last_offset + 1)])
        for one in asked.blocks
    ]
    catalog = await newest_catalog(settings)
    garbage.settle(COLLECTOR_YOUNG)
    decoded = [decode(blocks) for _ in range(asked.repeats)]
    events = decoded[0][1]
    loops: list[float] = []
    prepared: list[PreparedBlock] = []
    for _ in range(WARM_UPS + asked.repeats):
        seconds, prepared = await loop(settings, catalog, blocks)
        loops.append(seconds)
    inserts = await insert(settings, prepared, WARM_UPS + asked.repeats)
    return Answered(
        consume=rates(events, [seconds for seconds, _ in consumed]),
        decode=rates(events, [seconds for seconds, _ in decoded]),
        loop=rates(events, loops[WARM_UPS:]),
        insert=rates(events, inserts[WARM_UPS:]),
    )


def rates(events: int, seconds: Sequence[float]) -> tuple[float, ...]:
    return tuple(events / one for one in seconds)


def consume(settings: Settings, blocks: Sequence[Range]) -> tuple[float, dict[tuple[int, int], LogRecord]]:
    """Seconds to read the bytes of all blocks from the log, with librdkafka; and the records."""
    partitions = {one.partition for one in blocks}
    first = {number: min(one.first_offset for one in blocks if one.partition == number) for number in partitions}
    wanted = {(one.partition, offset) for one in blocks for offset in range(one.first_offset, one.last_offset + 1)}
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka.bootstrap, "group.id": "bench", "enable.auto.commit": False}
    )
    fetched: list[Message] = []
    missing = len(wanted)
    begun = time.perf_counter()
    try:
        consumer.assign([TopicPartition(USAGE_RAW, number, offset) for number, offset in first.items()])
        while missing > 0:
            batch = consumer.consume(_FETCHED, _FETCHED_WITHIN_S)
            if not batch and time.perf_counter() - begun > WITHIN_S:
                raise TimeoutError(f"{missing} records have not come")
            fetched += batch
            missing -= sum((message.partition(), message.offset()) in wanted for message in batch)
        seconds = time.perf_counter() - begun
    finally:
        consumer.close()
    records = {(message.partition() or 0, message.offset() or 0): record_of(message) for message in fetched}
    return seconds, records


def record_of(message: Message) -> LogRecord:
    headers = cast("list[tuple[str, bytes]]", message.headers() or [])
    return read_record(message.offset() or 0, message.timestamp()[1], cast("bytes", message.value()), headers)


def decode(blocks: Sequence[Block]) -> tuple[float, int]:
    """Seconds to make events of the bytes, and nothing else; and how many there are."""
    decoder = msgspec.json.Decoder(list[UsageEvent])
    begun = time.perf_counter()
    events = sum(len(decoder.decode(record.value)) for _, records in blocks for record in records)
    return time.perf_counter() - begun, events


async def newest_catalog(settings: Settings) -> Catalog:
    view = CatalogView(settings.kafka)
    await view.start()
    try:
        await view.caught_up(WITHIN_S)
        return view.current()
    finally:
        await view.stop()


async def loop(settings: Settings, catalog: Catalog, blocks: Sequence[Block]) -> tuple[float, list[PreparedBlock]]:
    """Seconds of the worker's own work: decode, judge, match, look up and enter in an empty filter, encode for Arrow."""
    memory = FilterMemory(
        memory_bytes=settings.worker.filter_memory_bytes, open_files_a_partition=settings.worker.filter_open_files
    )
    prepared: list[PreparedBlock] = []
    with tempfile.TemporaryDirectory() as root, ThreadPoolExecutor(1) as evaluation:
        numbers = {one.partition for one, _ in blocks}
        filters = {number: DuplicateFilter(Path(root) / str(number), memory, "bench") for number in numbers}
        evaluators = {
            number: BlockEvaluator(
                topic_id="bench",
                partition=number,
                partitions=settings.kafka.raw_partitions,
                shards=1,
                duplicates=duplicates,
                evaluation=evaluation,
            )
            for number, duplicates in filters.items()
        }
        begun = time.perf_counter()
        for one, records in blocks:
            block = await evaluators[one.partition].prepare(records, catalog)
            if block is None:
                raise ValueError("a block of the worker's is too large for one insert")
            oldest_day = block.outcomes.first_logged_at_ms // MS_PER_DAY - window_days(catalog)
            await evaluators[one.partition].enter(block.outcomes, oldest_day)
            prepared.append(block)
        seconds = time.perf_counter() - begun
        for duplicates in filters.values():
            duplicates.close()
    return seconds, prepared


async def insert(settings: Settings, blocks: Sequence[PreparedBlock], repeats: int) -> list[float]:
    """Seconds to insert the rows of all blocks into the same tables with the same view, as many at once as a worker."""
    server = ClickhouseClient(settings.clickhouse)
    await server.command(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
    own = ClickhouseClient(msgspec.structs.replace(settings.clickhouse, database=DATABASE))
    try:
        await Migrations(own, token_windows(settings), SystemClock()).apply()
        return [await insert_once(settings, own, blocks, repeat) for repeat in range(repeats)]
    finally:
        await server.command(f"DROP DATABASE {DATABASE}")
        await own.close()
        await server.close()


async def insert_once(
    settings: Settings, client: ClickhouseClient, blocks: Sequence[PreparedBlock], repeat: int
) -> float:
    waiting = iter(blocks)
    numbers = itertools.count()
    insert_before = SystemClock().now() + timedelta(hours=1)

    async def lane() -> None:
        for block in waiting:
            await insert_block(
                client,
                block.batch,
                token=f"{repeat}/{next(numbers)}",
                cut=1,
                insert_before=insert_before,
                deadline_s=settings.ingest.insert_deadline_s,
            )

    begun = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(settings.ingest.parallel_inserts)))
    return time.perf_counter() - begun


def main() -> None:
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Asked)
    answered = uvloop.run(measure(asked, load_settings(os.environ)))
    sys.stdout.buffer.write(msgspec.json.encode(answered))


if __name__ == "__main__":
    main()
