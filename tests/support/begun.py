"""A block as a worker leaves it that dies right after the intent."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from domain.catalog import Catalog
from schemas.ledger import LedgerBlock
from schemas.topics import USAGE_RAW
from stores.rocks.filter import DuplicateFilter
from stores.rocks.memory import FilterMemory
from streams.ingest_block import BlockEvaluator, PreparedBlock
from streams.log_reader import LogReader
from tests.support.ingest import PARTITIONS, Stack

RECORDS_MAX = 10_000


async def begin_block(
    stack: Stack, number: int, generation: int, catalog: Catalog, directory: Path
) -> tuple[PreparedBlock, LedgerBlock]:
    """All that a partition's log holds beyond the ledger as one block with an intent. Its filter lies in `directory`."""
    state = await stack.ledger.take_over(stack.topic_id, number, generation)
    reader = LogReader(stack.settings.kafka, USAGE_RAW)
    records = await reader.read(number, state.last_offset + 1, state.last_offset + RECORDS_MAX)
    with ThreadPoolExecutor(max_workers=1) as evaluation:
        duplicates = DuplicateFilter(directory / f"{number}-{state.epoch}", FilterMemory(), stack.topic_id)
        evaluator = BlockEvaluator(
            topic_id=stack.topic_id,
            partition=number,
            partitions=PARTITIONS,
            shards=1,
            duplicates=duplicates,
            evaluation=evaluation,
        )
        prepared = await evaluator.prepare(records, catalog)
        duplicates.close()
    assert prepared is not None
    return prepared, await stack.ledger.write_intent(state.epoch, prepared.intent, 30)
