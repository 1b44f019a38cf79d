"""`POST /v1/events`: how many events are accepted, each answered once the log has it (acks=all).

The ingest worker is away meanwhile: what is measured is one API process. It counts everything afterwards.
"""

import itertools

import msgspec

from bench.ceilings import bare_produce, empty_endpoint
from bench.figures import Measured
from bench.load import Connection, Load, connected, drive
from bench.processes import Cost
from bench.rig import Rig

NAME = "ingest"
# Of so many events the bare produce of their bytes is timed.
PRODUCED = 100_000


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of `size` events from `clients` connections."""

    size: int
    clients: int

    @property
    def label(self) -> str:
        events = "1 event" if self.size == 1 else f"{self.size:,} events"
        clients = "1 client" if self.clients == 1 else f"{self.clients} clients"
        return f"{events} a request, {clients}"


SHAPES = (
    Shape(size=1, clients=1),
    Shape(size=1, clients=64),
    Shape(size=10, clients=32),
    Shape(size=100, clients=16),
    Shape(size=1000, clients=1),
    Shape(size=1000, clients=8),
    Shape(size=10_000, clients=4),
)
QUICK_SHAPES = {(1, 64), (100, 16), (1000, 8)}
# Of these the CPU time of each process is shown.
COSTS = {(1, 64), (1000, 8)}


def shapes(rig: Rig) -> list[Shape]:
    """All, or in the quick form those that the targets name."""
    return [one for one in SHAPES if not rig.scale.quick or (one.size, one.clients) in QUICK_SHAPES]


async def run(rig: Rig) -> list[Measured]:
    async with rig.without("worker-ingest"):
        figures = [figure for shape in shapes(rig) for figure in await run_shape(rig, shape)]
    await rig.settled()
    return figures


async def run_shape(rig: Rig, shape: Shape) -> list[Measured]:
    """The ceiling of a rate is the lower of two: the server's empty endpoint, and the bare produce of the same bytes."""
    produced = await produce_rate(rig, shape.size)
    async with connected(rig.target, shape.clients) as connections:
        empty = await empty_endpoint(rig, connections)
        loads, cost = await loads_of(rig, shape, connections)
    ceiling = min(empty.per_second * shape.size, produced)
    accepted = tuple(load.per_second * shape.size for load in loads)
    figures = [Measured(scenario=NAME, figure=shape.label, unit="events/s", values=accepted, ceiling=ceiling)]
    figures += [
        Measured(
            scenario=NAME,
            figure=f"{shape.label}, p{percent}",
            unit="ms",
            values=tuple(load.latency_ms(percent) for load in loads),
            ceiling=empty.latency_ms(percent),
        )
        for percent in (50, 99)
    ]
    figures.append(Measured(scenario=NAME, figure=f"{shape.label}, bare produce", unit="events/s", values=(produced,)))
    if (shape.size, shape.clients) in COSTS:
        figures += cost.measured(NAME, shape.label)
    return figures


async def loads_of(rig: Rig, shape: Shape, connections: list[Connection]) -> tuple[list[Load], Cost]:
    requests, cost, loads = rig.requests(shape.size), Cost(rig.processes), []
    await drive(connections, requests, expected=202, within_s=rig.scale.load_s / 4)  # warm-up
    for _ in range(rig.scale.repeats):
        made = rig.events.made
        before = rig.processes.usage()
        loads.append(await drive(connections, requests, expected=202, within_s=rig.scale.load_s))
        cost.add(before, rig.events.made - made)
    return loads, cost


async def produce_rate(rig: Rig, size: int) -> float:
    """Events a second that the log acknowledges when nothing of ours is between it and their bytes."""
    requests = max(1, min(PRODUCED, rig.scale.events) // size)
    bodies = list(itertools.islice(rig.events.unsent(size), requests))
    return requests * size / await bare_produce(rig, bodies)
