"""Is the load generator the bottleneck? What it reaches against a server that does nothing, with the same requests."""

from bench.ceilings import empty_server
from bench.figures import Measured
from bench.load import Target, connected, drive
from bench.rig import Rig, repeated
from bench.scenarios.ingest import Shape, shapes

NAME = "generator"


async def run(rig: Rig) -> list[Measured]:
    async with empty_server() as target:
        return [await run_shape(rig, target, shape) for shape in shapes(rig)]


async def run_shape(rig: Rig, target: Target, shape: Shape) -> Measured:
    requests = rig.events.unsent(shape.size, lambda body: target.request("POST", "/v1/events", body))

    async def once() -> float:
        load = await drive(connections, requests, expected=202, within_s=rig.scale.load_s / 4)
        return load.per_second * shape.size

    async with connected(target, shape.clients) as connections:
        values = await repeated(rig.scale.repeats, once)
    figure = f"{shape.label}, to a server that does nothing"
    return Measured(scenario=NAME, figure=figure, unit="events/s", values=values)
