"""From the first request to the last event visible in usage, as fast as the system takes them."""

import time

from bench.figures import Measured
from bench.load import connected, drive
from bench.rig import Rig, repeated

NAME = "end-to-end"
SIZE = 1000
CLIENTS = 8


async def run(rig: Rig) -> list[Measured]:
    requests = max(CLIENTS, rig.scale.events // SIZE)

    async def once() -> float:
        encoded = [rig.target.request("POST", "/v1/events", body) for body in rig.events.bodies(requests, SIZE)]
        begun = time.perf_counter()
        await drive(connections, encoded, expected=202)
        return requests * SIZE / (await rig.settled() - begun)

    async with connected(rig.target, CLIENTS) as connections:
        values = await repeated(rig.scale.repeats, once)
    figure = f"accepted to visible in usage, {SIZE:,} events a request, {CLIENTS} clients"
    return [Measured(scenario=NAME, figure=figure, unit="events/s", values=values)]
