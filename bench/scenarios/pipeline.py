"""From the log to the windows: one ingest worker that finds everything there, with two meters an event.

The log is filled through the API while the worker is away. From the moment at which its first block is done until all are:
PostgreSQL's clock says so, block by block, in the ledger. A done block is visible.
"""

import asyncio
import itertools
import sys
from statistics import median

import msgspec

from bench.figures import Measured
from bench.ledger import DoneBlock
from bench.load import BenchError, connected, drive
from bench.processes import Cost
from bench.rig import Rig
from bench.worker_parts import Answered, Asked, Range

NAME = "pipeline"
WORKER = "worker-ingest"
SIZE, CLIENTS = 1000, 4
PARTS_WITHIN_S = 240.0


async def run(rig: Rig) -> list[Measured]:
    cost = Cost(rig.processes)
    repeats = [await drained(rig, cost) for _ in range(rig.scale.repeats)]
    parts = await parts_of(rig, repeats[-1])
    alone = [
        ("bare ClickHouse insert of the same rows, same table and view", parts.insert),
        ("the worker's loop without I/O but its filter's", parts.loop),
        ("bare Kafka consume of the same bytes", parts.consume),
        ("JSON decoding alone", parts.decode),
    ]
    lowest = min(median(parts.insert), median(parts.loop))
    rates = tuple(rate_of(blocks) for blocks in repeats)
    return [
        Measured(
            scenario=NAME, figure="log to visible in windows, 1 worker", unit="events/s", values=rates, ceiling=lowest
        ),
        *[Measured(scenario=NAME, figure=figure, unit="events/s", values=values) for figure, values in alone],
        *cost.measured(NAME, "1 worker"),
    ]


async def drained(rig: Rig, cost: Cost | None = None) -> list[DoneBlock]:
    """The blocks of a log that was full when the worker came, all done."""
    begun = await rig.ledger.now()
    async with rig.without(WORKER):
        await fill(rig, rig.scale.pipeline_events)
    first = await rig.ledger.first_done(begun)
    before = rig.processes.usage()
    counted = await rig.ledger.stored_after(begun)
    await rig.ledger.caught_up()
    if cost is not None:
        cost.add(before, rig.scale.pipeline_events - counted)
    await rig.settled()
    blocks = await rig.ledger.done_after(begun)
    if not blocks or blocks[0].done_at < first:
        raise BenchError("blocks were done while the worker was away")
    return blocks


async def fill(rig: Rig, events: int) -> None:
    async with connected(rig.target, CLIENTS) as connections:
        await drive(connections, itertools.islice(rig.requests(SIZE), events // SIZE), expected=202)


def rate_of(blocks: list[DoneBlock]) -> float:
    """Events a second from the first done block on: what came before it is no work of this time."""
    begun, ended = blocks[0].done_at, blocks[-1].done_at
    after = sum(block.events for block in blocks if block.done_at > begun)
    if not after:
        raise BenchError("all blocks were done at once: there is too little to measure")
    return after / (ended - begun)


async def parts_of(rig: Rig, blocks: list[DoneBlock]) -> Answered:
    """What the parts allow on the same records: `worker_parts.py` in a process of its own."""
    ranges = [Range(block.partition, block.first_offset, block.last_offset) for block in blocks]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.worker_parts",
        env=rig.environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PARTS_WITHIN_S):
            answered, _ = await process.communicate(
                msgspec.json.encode(Asked(blocks=ranges, repeats=rig.scale.repeats))
            )
    except TimeoutError:
        process.kill()
        raise BenchError(f"the parts of the worker were not measured within {PARTS_WITHIN_S:g} s") from None
    if process.returncode:
        raise BenchError(f"the parts of the worker could not be measured: exit code {process.returncode}")
    return msgspec.json.decode(answered, type=Answered)
