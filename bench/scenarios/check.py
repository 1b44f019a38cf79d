"""`POST /v1/check`: single checks and batches over HTTP, and the same decision in one process without any."""

import asyncio
import itertools
import time
from collections.abc import Callable
from decimal import Decimal
from statistics import median

import msgspec

from api.auth import Principal
from api.check import Checker
from bench.ceilings import empty_endpoint
from bench.events import CUSTOMERS, ENVIRONMENT, TENANT
from bench.figures import Measured
from bench.held import fold_of
from bench.load import connected, drive
from bench.rig import FEATURE, Rig
from runtime.clock import SystemClock

NAME = "check"
CLIENTS = (1, 16, 64)
BATCH = 100
BATCH_CLIENTS = (1, 16)
HELD = 1000  # customers of the decision in one process
_US = 1_000_000
_CALLS = 20  # between two looks at the clock


async def run(rig: Rig) -> list[Measured]:
    await rig.checks_ready()
    alone = await asyncio.to_thread(in_process, rig)
    one_core = _US / median(alone[-1].values)
    single = [measured for clients in CLIENTS for measured in await run_clients(rig, clients, 1, None)]
    batches = [measured for clients in BATCH_CLIENTS for measured in await run_clients(rig, clients, BATCH, one_core)]
    return [*single, *batches, *alone]


async def run_clients(rig: Rig, clients: int, size: int, most: float | None) -> list[Measured]:
    """`size` checks a request; `most` is the ceiling of their rate, by default that of empty requests."""
    cycle = itertools.cycle([rig.target.request("POST", "/v1/check", body) for body in bodies(size)])
    async with connected(rig.target, clients) as connections:
        empty = await empty_endpoint(rig, connections)
        await drive(connections, cycle, expected=200, within_s=rig.scale.load_s / 4)  # warm-up
        repeats = range(rig.scale.repeats)
        loads = [await drive(connections, cycle, expected=200, within_s=rig.scale.load_s) for _ in repeats]
    label = "1 client" if clients == 1 else f"{clients} clients"
    if size > 1:
        label = f"{size} checks a request, {label}"
    rates = tuple(load.per_second * size for load in loads)
    figures = [
        ("", "checks/s", rates, most or empty.per_second),
        (", p50", "ms", tuple(load.latency_ms(50) for load in loads), empty.latency_ms(50)),
        (", p99", "ms", tuple(load.latency_ms(99) for load in loads), empty.latency_ms(99)),
    ]
    return [
        Measured(scenario=NAME, figure=f"{label}{name}", unit=unit, values=values, ceiling=ceiling)
        for name, unit, values, ceiling in figures
    ]


def bodies(size: int) -> list[bytes]:
    """Bodies of `size` checks, each of another customer than the one before."""
    asked = [{"customer": f"customer-{number}", "feature": FEATURE, "quantity": "1"} for number in range(CUSTOMERS)]
    if size == 1:
        return [msgspec.json.encode(one) for one in asked]
    return [msgspec.json.encode([asked[place % CUSTOMERS] for place in range(size)])]


def in_process(rig: Rig) -> list[Measured]:
    """Microseconds of the decision alone, and with reading the question and writing the answer around it."""
    now = SystemClock().now()
    principal = Principal(key_id="key", tenant=TENANT, environment=ENVIRONMENT, scopes=frozenset({"checks:read"}))
    names = [f"held-{number}" for number in range(HELD)]
    fold = fold_of(names, [FEATURE], now)
    customers = [fold.find(TENANT, ENVIRONMENT, name) for name in names]
    questions = [{"customer": name, "feature": FEATURE, "quantity": "1"} for name in names]
    asked = [msgspec.json.encode(one) for one in questions]
    arrays = [msgspec.json.encode([questions[(place + more) % HELD] for more in range(BATCH)]) for place in range(HELD)]
    encoder, one = msgspec.json.Encoder(), Decimal(1)

    def decide(place: int) -> object:
        held = customers[place]
        return held.standings.check(FEATURE, one, now=now, as_of=fold.as_of(held), stale=False)

    def answer(place: int) -> object:
        return encoder.encode(Checker(fold, principal, now).answer(asked[place]))

    def answer_array(place: int) -> object:
        return encoder.encode(Checker(fold, principal, now).answer_each(arrays[place]))

    repeats = range(rig.scale.repeats)
    return [
        Measured(
            scenario=NAME,
            figure=f"in process, {what}",
            unit="µs",
            values=tuple(microseconds(call, rig.scale.load_s / 4) / checks for _ in repeats),
        )
        for what, call, checks in (
            ("the decision", decide, 1),
            ("from body to body", answer, 1),
            (f"from body to body, {BATCH} at once", answer_array, BATCH),
        )
    ]


def microseconds(call: Callable[[int], object], within_s: float) -> float:
    """The mean of a call."""
    count, places = 0, itertools.cycle(range(HELD))
    begun = time.perf_counter()
    while (seconds := time.perf_counter() - begun) < within_s:
        for _ in range(_CALLS):
            call(next(places))
        count += _CALLS
    return seconds / count * _US
