"""What the ingest role works with, wired once."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.clock import Clock
from runtime.settings import Settings
from schemas.topics import USAGE_RAW
from stores.clickhouse.client import ClickhouseClient
from stores.kafka import Producer
from stores.postgres.ledger import Ledger
from stores.rocks.filter import DuplicateFilter
from streams.catalog_view import CatalogView
from streams.log_reader import LogReader

# The end of the log of one partition of usage.raw: the offset that its next record will get.
EndOffset = Callable[[int], Awaitable[int]]
# Commit (partition, next offset) to Kafka where no acknowledgement will: behind a gap at the end of the log.
CommitPosition = Callable[[int, int], Awaitable[object]]


class IngestDeps(msgspec.Struct, frozen=True, kw_only=True):
    settings: Settings
    clock: Clock
    topic_id: str
    engine: AsyncEngine
    ledger: Ledger
    clickhouse: ClickhouseClient
    producer: Producer
    catalog: CatalogView
    log: LogReader
    end_offset: EndOffset
    commit: CommitPosition
    open_filter: Callable[[int], DuplicateFilter]
    evaluation: Executor
    """One thread: blocks are judged one after another, beside the event loop."""
    inserts: asyncio.Semaphore
    """Blocks that ClickHouse works on at once: when it is slow, a few in time are better than all too late."""
    loads: asyncio.Semaphore
    """Filters that read from ClickHouse at once to be rebuilt: it bounds their memory, and leaves room for blocks."""

    @property
    def topic(self) -> str:
        return USAGE_RAW

    @property
    def partitions(self) -> int:
        return self.settings.kafka.raw_partitions

    @property
    def budget_s(self) -> float:
        return self.settings.worker.retry_budget_s
