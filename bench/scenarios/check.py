"""`POST /v1/check`: single checks over HTTP, each of another customer than the one before."""

import itertools

import msgspec

from bench.ceilings import empty_endpoint
from bench.events import CUSTOMERS
from bench.figures import Measured
from bench.load import connected, drive
from bench.rig import FEATURE, Rig

NAME = "check"
CLIENTS = (1, 16)


async def run(rig: Rig) -> list[Measured]:
    await rig.checks_ready()
    return [measured for clients in CLIENTS for measured in await run_clients(rig, clients)]


async def run_clients(rig: Rig, clients: int) -> list[Measured]:
    asked = [{"customer": f"customer-{number}", "feature": FEATURE, "quantity": "1"} for number in range(CUSTOMERS)]
    requests = [rig.target.request("POST", "/v1/check", msgspec.json.encode(one)) for one in asked]
    cycle = itertools.cycle(requests)
    async with connected(rig.target, clients) as connections:
        empty = await empty_endpoint(rig, connections)
        await drive(connections, cycle, expected=200, within_s=rig.scale.load_s / 4)  # warm-up
        repeats = range(rig.scale.repeats)
        loads = [await drive(connections, cycle, expected=200, within_s=rig.scale.load_s) for _ in repeats]
    label = "1 client" if clients == 1 else f"{clients} clients"
    figures = [
        ("", "checks/s", tuple(load.per_second for load in loads), empty.per_second),
        (", p50", "ms", tuple(load.latency_ms(50) for load in loads), empty.latency_ms(50)),
        (", p99", "ms", tuple(load.latency_ms(99) for load in loads), empty.latency_ms(99)),
    ]
    return [
        Measured(scenario=NAME, figure=f"{label}{name}", unit=unit, values=values, ceiling=ceiling)
        for name, unit, values, ceiling in figures
    ]
