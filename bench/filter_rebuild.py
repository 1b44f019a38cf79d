"""How long a worker without local state needs: `python -m bench.filter_rebuild [--identities N] [--partitions P]`.

Fills `events` and the ledger with N identities for each of P partitions over 37 days, takes partition 0 over with an empty
directory, and judges a block of 10,000 identities a second while the filter loads behind.
"""

import argparse
import asyncio
import os
import random
import resource
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, timedelta
from pathlib import Path
from typing import Any, cast

import psycopg

from domain.catalog import CatalogLog
from runtime.clock import SystemClock
from runtime.settings import ClickhouseSettings, PostgresSettings, Secret, Settings
from schemas.catalog import CatalogVersion
from stores.clickhouse.client import ClickhouseClient
from stores.clickhouse.migrations import Migrations
from stores.clickhouse.tokens import token_windows
from stores.postgres.engine import create_engine
from stores.postgres.ledger import Ledger
from stores.postgres.migrations import migrate
from stores.rocks.filter import DuplicateFilter
from stores.rocks.memory import FilterMemory
from streams.ingest_deps import IngestDeps
from streams.ingest_filter import PartitionFilter
from tests.support.servers import running

TOPIC = "bench"
DAYS = 37
EVENTS_A_RECORD = 10
RECORDS_A_BLOCK = 1_000
BLOCK_EVENTS = EVENTS_A_RECORD * RECORDS_A_BLOCK
QUESTIONS = 10_000
COPIES = 3_000

EVENTS = """
    INSERT INTO events (tenant, environment, id, type, customer, time, received_at, logged_at, ingested_at, block_day,
        properties, identity, topic_id, partition, offset, `index`, first_offset, version, evaluator, insert_before)
    SELECT 'acme', 'live', toString(n), 'call', concat('c', toString(n % 1000)), at, at, at, at, toDate(at), '{{}}',
        toFixedString(unhex(hex(sipHash128('{partition}', n))), 16), '{topic}', {partition}, intDiv(n, {record}), n % {record},
        intDiv(n, {block}) * {records}, 1, 1, now64(3) + 3600
    FROM (
        SELECT number + {first} AS n, toDateTime64('{day} 00:00:00', 3, 'UTC') + number * 86000 / {count} AS at
        FROM numbers({count})
    )
"""
BLOCKS = """
    INSERT INTO ledger_blocks (topic_id, partition, first_offset, last_offset, epoch, version, evaluator, cut,
        insert_before, state, stored, duplicate, rejected, forwarded, counts, row_hash, first_logged_at, last_logged_at,
        intent_at, done_at)
    SELECT %(topic)s, 0, %(first)s + n * %(records)s, %(first)s + (n + 1) * %(records)s - 1, 1, 1, 1, 1, now(), 'done',
        %(block)s, 0, 0, 0, '[]', '', %(day)s::timestamptz + n * interval '1 second',
        %(day)s::timestamptz + n * interval '1 second', now(), now()
    FROM generate_series(0, %(blocks)s - 1) AS n
"""


async def fill(client: ClickhouseClient, url: str, blocks_a_day: int, partitions: int) -> date:
    """The same number of blocks every day; the first day."""
    first_day = (SystemClock().now().astimezone(UTC) - timedelta(days=DAYS)).date()
    count = blocks_a_day * BLOCK_EVENTS
    with psycopg.connect(url) as ledger:
        for number in range(DAYS):
            day = first_day + timedelta(days=number)
            for partition in range(partitions):
                await client.command(
                    EVENTS.format(
                        partition=partition,
                        topic=TOPIC,
                        record=EVENTS_A_RECORD,
                        block=BLOCK_EVENTS,
                        records=RECORDS_A_BLOCK,
                        first=number * count,
                        count=count,
                        day=day,
                    )
                )
            first = number * blocks_a_day * RECORDS_A_BLOCK
            values = {"topic": TOPIC, "first": first, "records": RECORDS_A_BLOCK, "block": BLOCK_EVENTS}
            ledger.execute(BLOCKS, {**values, "day": f"{day} 00:00:00Z", "blocks": blocks_a_day})
        ledger.execute(
            "INSERT INTO ledger_partitions (topic_id, partition, last_offset, last_logged_at) VALUES (%s, 0, %s, %s)",
            [TOPIC, DAYS * blocks_a_day * RECORDS_A_BLOCK - 1, f"{day} 23:00:00Z"],
        )
    return first_day


async def measure(settings: Settings, root: Path, identities: int, partitions: int) -> None:
    client = ClickhouseClient(settings.clickhouse)
    engine = create_engine(settings.postgres)
    await Migrations(client, token_windows(settings), SystemClock()).apply()
    blocks_a_day = max(identities // DAYS // BLOCK_EVENTS, 1)
    began_at = time.monotonic()
    first_day = await fill(client, settings.postgres.url.reveal(), blocks_a_day, partitions)
    print(f"{DAYS * blocks_a_day * BLOCK_EVENTS} identities in {partitions} partitions, filled in {since(began_at)}")

    rows = await client.rows("SELECT identity FROM events WHERE partition = 0 LIMIT {n:UInt32}", {"n": COPIES})
    copies = [bytes(row[0]) for row in rows]
    log = CatalogLog()
    log.append(CatalogVersion(version=1, changes=[]))
    catalog = log.at(1)
    memory = FilterMemory()
    absent: Any = None
    deps = IngestDeps(
        settings=settings,
        clock=SystemClock(),
        topic_id=TOPIC,
        engine=engine,
        ledger=Ledger(engine),
        clickhouse=client,
        producer=absent,
        catalog=cast("Any", type("Catalog", (), {"current": lambda _: catalog})()),
        log=absent,
        end_offset=absent,
        commit=absent,
        open_filter=lambda partition: DuplicateFilter(root / str(partition), memory, TOPIC),
        evaluation=ThreadPoolExecutor(max_workers=1),
        inserts=asyncio.Semaphore(1),
        loads=asyncio.Semaphore(1),
    )
    ended = asyncio.Event()
    today = (first_day - date(1970, 1, 1)).days + DAYS - 1
    state = await deps.ledger.take_over(TOPIC, 0, 1)
    began_at = time.monotonic()
    filter_ = await PartitionFilter.opened(deps, 0, lambda _: ended.set())
    await filter_.bring_up(state)
    print(f"serves after {since(began_at)}")
    while filter_.duplicates.gaps and not ended.is_set():
        await ask(deps, filter_, copies, today, began_at)
        await asyncio.sleep(1)
    await ended.wait()
    print(f"complete after {since(began_at)}")
    for _ in range(3):
        await ask(deps, filter_, copies, today, began_at)
    files = [path.stat().st_size for path in (root / "0").iterdir()]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{sum(files) / (DAYS * blocks_a_day * BLOCK_EVENTS):.1f} bytes an identity on disk, {peak:.0f} MiB resident at most"
    )
    filter_.duplicates.close()
    await client.close()
    await engine.dispose()


async def ask(deps: IngestDeps, filter_: PartitionFilter, copies: list[bytes], today: int, began_at: float) -> None:
    """A block of identities, some of them known: from the filter, and in its gaps from the store."""
    asked = [*copies, *(random.randbytes(16) for _ in range(QUESTIONS - len(copies)))]
    local_at, loop = time.monotonic(), asyncio.get_running_loop()
    known = await loop.run_in_executor(deps.evaluation, filter_.duplicates.earliest, asked, today, DAYS)
    gaps, stored_at = filter_.duplicates.gaps, time.monotonic()
    unknown = [identity for identity, position in zip(asked, known, strict=True) if position is None]
    found = await filter_.look_up(unknown, gaps, today - DAYS) if gaps else []
    of_them = "all of them" if found is None else f"{len(asked) - len(unknown) + len(found)} of {len(copies)} copies"
    print(f"at {since(began_at)}: filter {stored_at - local_at:.2f} s, store {since(stored_at)}, {of_them}")


def since(instant: float) -> str:
    return f"{time.monotonic() - instant:.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--identities", type=int, default=10_000_000)
    parser.add_argument("--partitions", type=int, default=1)
    given = parser.parse_args()
    os.nice(1)
    with running("postgres", "clickhouse") as endpoints, tempfile.TemporaryDirectory() as root:
        settings = Settings(
            postgres=PostgresSettings(url=Secret(endpoints["postgres_url"])),
            clickhouse=ClickhouseSettings(url=Secret(endpoints["clickhouse_url"]), query_timeout_s=120.0),
        )
        migrate(settings.postgres)
        asyncio.run(measure(settings, Path(root), given.identities, given.partitions))


if __name__ == "__main__":
    main()
