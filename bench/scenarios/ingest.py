"""`POST /v1/events`: how many events are accepted, each answered once the log has it (acks=all)."""

import msgspec

from bench.ceilings import bare_produce, empty_endpoint
from bench.figures import Measured
from bench.load import Load, connected, drive
from bench.rig import Rig

NAME = "ingest"


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of `size` events from `clients` connections; `share` of the scale's events are sent a repeat."""

    size: int
    clients: int
    share: float

    @property
    def label(self) -> str:
        events = "1 event" if self.size == 1 else f"{self.size:,} events"
        return f"{events} a request, {self.clients} clients"


SHAPES = (
    Shape(size=1, clients=64, share=0.1),
    Shape(size=100, clients=16, share=0.5),
    Shape(size=1000, clients=8, share=1.0),
)


async def run(rig: Rig) -> list[Measured]:
    return [measured for shape in SHAPES for measured in await run_shape(rig, shape)]


async def run_shape(rig: Rig, shape: Shape) -> list[Measured]:
    """The ceiling of single events is the server's empty endpoint, that of many the bare produce of their bytes."""
    requests = max(shape.clients, int(rig.scale.events * shape.share) // shape.size)
    loads: list[Load] = []
    async with connected(rig.target, shape.clients) as connections:
        if shape.size == 1:
            empty = await empty_endpoint(rig, connections)
            ceiling, floor_ms = empty.per_second, empty.latency_ms(99)
        else:
            bodies = rig.events.unsent_bodies(requests, shape.size)
            ceiling, floor_ms = requests * shape.size / await bare_produce(rig, bodies), None
        for _ in range(rig.scale.repeats):
            bodies = rig.events.bodies(requests, shape.size)
            encoded = [rig.target.request("POST", "/v1/events", body) for body in bodies]
            loads.append(await drive(connections, encoded, expected=202))
            # The next repeat starts with nothing left over from this one.
            await rig.settled()
    accepted = tuple(load.per_second * shape.size for load in loads)
    slowest = tuple(load.latency_ms(99) for load in loads)
    return [
        Measured(scenario=NAME, figure=shape.label, unit="events/s", values=accepted, ceiling=ceiling),
        Measured(scenario=NAME, figure=f"{shape.label}, p99", unit="ms", values=slowest, ceiling=floor_ms),
    ]
