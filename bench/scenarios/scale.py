"""Events a second from a full log to the windows, as workers and partitions are added. Each on a system of its own.

The workers stand still while the log is filled, so that who owns what is settled when the time begins.
"""

from collections.abc import Sequence

from bench.figures import Measured
from bench.ledger import DoneBlock
from bench.rig import Bench, Rig, repeated, running
from bench.scenarios.pipeline import fill, rate_of
from cli.system import ONE_OF_EACH

NAME = "scale"
FIRST, SECOND = "worker-ingest", "worker-ingest-2"
# Longer than the log takes to be filled, during which a worker that stands still must not lose its partitions.
SETTINGS = {"METERSTREAM_WORKER_SESSION_TIMEOUT_S": "60"}


async def run(bench: Bench) -> list[Measured]:
    measured = await run_workers(bench)
    for partitions in (1, 16):
        async with running(bench, name=f"scale-{partitions}", settings=SETTINGS, partitions=partitions) as rig:
            measured.append(await figure(rig, label(1, partitions), [FIRST]))
    return measured


async def run_workers(bench: Bench) -> list[Measured]:
    """Four partitions, with one worker and with two."""
    workers = {**ONE_OF_EACH, "ingest": 2}
    async with running(bench, name="scale-4", settings=SETTINGS, workers=workers) as rig:
        two = await figure(rig, label(2, 4), [FIRST, SECOND])
        async with rig.without(SECOND):
            one = await figure(rig, label(1, 4), [FIRST])
    return [one, two]


def label(workers: int, partitions: int) -> str:
    return f"{workers} worker{'s' * (workers > 1)}, {partitions} partition{'s' * (partitions > 1)}"


async def figure(rig: Rig, name: str, workers: Sequence[str]) -> Measured:
    await drained(rig, workers)  # warm-up, and whoever leaves has left

    async def once() -> float:
        return rate_of(await drained(rig, workers))

    values = await repeated(rig.scale.repeats, once)
    return Measured(scenario=NAME, figure=f"log to visible in windows, {name}", unit="events/s", values=values)


async def drained(rig: Rig, workers: Sequence[str]) -> list[DoneBlock]:
    await rig.settled()
    with rig.frozen(*workers):
        await fill(rig, rig.scale.pipeline_events)
        begun = await rig.ledger.now()
    await rig.settled()
    return await rig.ledger.done_after(begun)
