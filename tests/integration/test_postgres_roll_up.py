"""Old ledger rows become one an hour, and every reader of the ledger reads what it read before."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace
from psycopg.rows import dict_row

from runtime.settings import PostgresSettings
from schemas.ledger import TenantCount
from schemas.scope import Scope
from schemas.topics import USAGE_RAW
from stores.postgres.cutoffs import reaches_of
from stores.postgres.cuts import Cuts
from stores.postgres.engine import create_engine
from stores.postgres.ledger import Ledger
from stores.postgres.progress import Progress, ProgressReader
from stores.postgres.roll_up import RolledUp, roll_up
from tests.support.database import database
from tests.support.ledgers import HOUR, LOGGED_AT, TOPIC, add_partitions, intent

DEADLINE_S = 30.0
NOW = LOGGED_AT + timedelta(days=3)
BEFORE = NOW - timedelta(days=1)


@pytest.fixture(scope="module")
def settings(postgres_url: str) -> Iterator[PostgresSettings]:
    with database(postgres_url, "test_roll_up") as found:
        yield found


class Book:
    """A ledger whose blocks are one record each, logged and done where a test says."""

    def __init__(self, settings: PostgresSettings) -> None:
        self.url = settings.url.reveal()
        self.engine = create_engine(settings)
        self.ledger = Ledger(self.engine)
        self.cuts = Cuts(self.engine)
        self.next = [0, 0]
        self.epochs: list[int] = []

    async def blocks(
        self,
        count: int,
        at: datetime,
        *,
        partition: int = 0,
        version: int = 1,
        stored: int = 3,
        open_last: bool = False,
    ) -> None:
        """`count` blocks a second apart from `at` on, done a second after they were logged."""
        for number in range(count):
            offset = self.next[partition]
            self.next[partition] += 1
            logged_at = at + timedelta(seconds=number)
            one = replace(
                intent(offset, offset, partition=partition, version=version, stored=stored),
                first_logged_at=logged_at,
                last_logged_at=logged_at,
                max_event_at=logged_at,
                row_hash=bytes([offset % 256]) * 16,
            )
            opened = await self.ledger.write_intent(self.epochs[partition], one, DEADLINE_S)
            if open_last and number == count - 1:
                return
            await self.ledger.finish(self.epochs[partition], opened)
            with psycopg.connect(self.url) as connection:
                connection.execute(
                    "UPDATE ledger_blocks SET done_at = %s WHERE partition = %s AND first_offset = %s",
                    [logged_at + timedelta(seconds=1), partition, offset],
                )

    def rows(self, partition: int = 0) -> list[dict[str, Any]]:
        with psycopg.connect(self.url, row_factory=dict_row) as connection:
            query = "SELECT * FROM ledger_blocks WHERE partition = %s ORDER BY first_offset"
            return connection.execute(query, [partition]).fetchall()

    def ranges(self, partition: int = 0) -> list[tuple[object, object, object]]:
        return [(row["first_offset"], row["last_offset"], row["blocks"]) for row in self.rows(partition)]

    async def roll_up(self, before: datetime = BEFORE, rows_a_slice: int = 1000) -> RolledUp:
        steps = [step async for step in roll_up(self.engine, before, rows_a_slice)]
        return RolledUp(blocks=sum(step.blocks for step in steps), rows=sum(step.rows for step in steps))


@pytest.fixture
async def book(settings: PostgresSettings) -> AsyncIterator[Book]:
    with psycopg.connect(settings.url.reveal()) as connection:
        connection.execute("TRUNCATE ledger_partitions, ledger_blocks, usage_cuts, log_topics")
        connection.execute("UPDATE usage_cut SET cut = 1, raised_at = %s", [LOGGED_AT])
        connection.execute("INSERT INTO log_topics VALUES (%s, %s, 2)", [USAGE_RAW, TOPIC])
    add_partitions(settings, 2)
    made = Book(settings)
    made.epochs = [(await made.ledger.take_over(TOPIC, number, 1)).epoch for number in (0, 1)]
    yield made
    await made.engine.dispose()


async def test_blocks_of_an_hour_become_one_row_that_says_what_they_said(book: Book) -> None:
    await book.blocks(5, LOGGED_AT)
    parts = book.rows()
    await book.blocks(1, NOW)
    assert await book.roll_up() == RolledUp(blocks=5, rows=1)
    [rolled, newest] = book.rows()
    assert (rolled["first_offset"], rolled["last_offset"], rolled["blocks"]) == (0, 4, 5)
    assert (rolled["stored"], rolled["duplicate"], rolled["rejected"], rolled["forwarded"]) == (15, 5, 0, 0)
    assert rolled["counts"] == [["acme", "live", HOUR, 15, 5, 0, 0]]
    assert rolled["row_hash"] == hashlib.sha256(b"".join(bytes(part["row_hash"]) for part in parts)).digest()
    for column, of in (("first_logged_at", 0), ("intent_at", 0), ("last_logged_at", 4), ("done_at", 4)):
        assert rolled[column] == parts[of][column], column
    assert rolled["max_event_at"] == parts[4]["max_event_at"]
    assert (newest["first_offset"], newest["blocks"]) == (5, 1)
    found = await book.ledger.done_blocks_above(TOPIC, 0, -1)
    assert [(one.intent.first_offset, one.intent.last_offset, one.blocks) for one in found] == [(0, 4, 5), (5, 5, 1)]


async def test_no_row_crosses_an_hour_a_cut_a_version_a_gap_or_a_partition(book: Book) -> None:
    await book.blocks(2, LOGGED_AT)
    await book.blocks(2, LOGGED_AT + timedelta(hours=1))
    await book.cuts.raise_cut(0, NOW)
    await book.blocks(2, LOGGED_AT + timedelta(hours=1, minutes=1))
    await book.blocks(2, LOGGED_AT + timedelta(hours=1, minutes=2), version=2)
    await book.ledger.record_gap(
        book.epochs[0], topic_id=TOPIC, partition=0, first_offset=8, last_offset=9, evaluator=1
    )
    book.next[0] = 10
    await book.blocks(2, LOGGED_AT + timedelta(hours=1, minutes=3), version=2)
    await book.blocks(1, NOW, version=2)
    await book.blocks(2, LOGGED_AT, partition=1)
    await book.blocks(1, NOW, partition=1)
    assert await book.roll_up() == RolledUp(blocks=12, rows=6)
    pairs = [(0, 1, 2), (2, 3, 2), (4, 5, 2), (6, 7, 2), (8, 9, 1), (10, 11, 2), (12, 12, 1)]
    assert book.ranges() == pairs
    assert book.ranges(1) == [(0, 1, 2), (2, 2, 1)]
    assert await book.roll_up() == RolledUp()
    assert book.ranges() == pairs


async def test_what_is_young_open_or_last_of_its_partition_is_left_alone(book: Book) -> None:
    await book.blocks(3, NOW - timedelta(hours=20))
    await book.blocks(2, NOW, open_last=True)
    # The deltas of a partition's last blocks may not have been sent, however long ago that was.
    await book.blocks(3, LOGGED_AT, partition=1)
    assert await book.roll_up() == RolledUp()
    assert len(book.rows()) == 5
    assert len(book.rows(1)) == 3
    await book.blocks(1, LOGGED_AT + timedelta(hours=2), partition=1)
    assert await book.roll_up() == RolledUp(blocks=3, rows=1)


async def test_slices_and_repeats_end_in_one_row_an_hour_at_most_of_bounded_size(book: Book) -> None:
    for hour in range(3):
        await book.blocks(4, LOGGED_AT + timedelta(hours=hour), stored=400_000 if hour == 2 else 3)
    await book.blocks(1, NOW)
    total = await book.roll_up(rows_a_slice=4)
    assert total == RolledUp(blocks=12, rows=4)
    # A row stands for about a million events at most: 400,000 and 800,000 are below the first million, 1,200,000 and
    # 1,600,000 below the second.
    assert book.ranges() == [(0, 3, 4), (4, 7, 4), (8, 9, 2), (10, 11, 2), (12, 12, 1)]


async def _readings(book: Book, through: Progress) -> list[object]:
    reader = ProgressReader(book.engine, USAGE_RAW)
    scope = Scope("acme", "live")
    return [
        await reader.outcomes_between({}, through.vector),
        await reader.outcomes_of(scope, through.vector),
        await reader.outcomes_by_hour(scope, through.vector, LOGGED_AT, NOW),
        await book.ledger.counts(TOPIC, "acme", "live", LOGGED_AT, NOW),
        await reaches_of(book.engine, TOPIC, [1, 2, 3, 4]),
        await book.ledger.watermark(TOPIC),
        await book.cuts.oldest_open(),
    ]


async def test_every_reader_of_the_ledger_reads_the_same_before_and_after(book: Book) -> None:
    for minutes in (0, 20, 40, 70):
        for partition in (0, 1):
            await book.blocks(4, LOGGED_AT + timedelta(minutes=minutes, seconds=partition), partition=partition)
        await book.cuts.raise_cut(0, NOW)
    for partition in (0, 1):
        await book.blocks(2, NOW, partition=partition, open_last=partition == 1)
    through = await ProgressReader(book.engine, USAGE_RAW).progress()
    before = await _readings(book, through)
    assert (await book.roll_up()).rows == 8
    assert await _readings(book, through) == before
    counts = await book.ledger.counts(TOPIC, "acme", "live", LOGGED_AT, NOW)
    assert [(one.stored, one.duplicate) for one in counts] == [(105, 35)]
    assert isinstance(counts[0], TenantCount)
