"""How long after its acceptance an event is visible, at a steady rate: in `GET /v1/usage`, and in `POST /v1/check`.

Each event carries the customer (and the dimension) of its partition, and a partition keeps its order, so the moment at
which a customer's count reaches n is the moment at which its n-th event is visible: every event is a sample. Moments are
taken when the answer has come, so they are late by up to one poll.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from bench.events import lane_customer
from bench.figures import Measured, percentile
from bench.load import BenchError, Caller, check_status, connected
from bench.rig import FEATURE, PARTITIONS, VISIBLE_WITHIN_S, Checked, Rig

NAME = "freshness"
RATE = 1_000
SIZE = 50
USAGE_POLL_S = 0.05
CHECK_POLL_S = 0.01
PERCENTS = (50, 95, 99)

Counts = list[int]


class Lane:
    """One partition: when each of its events was accepted, and what was seen of them."""

    def __init__(self) -> None:
        self.accepted_at: list[float] = []

    def delays(self, sightings: Sequence[tuple[float, int]]) -> list[float]:
        """Seconds from acceptance until the count was first seen to include the event. `sightings` in order of time."""
        delays: list[float] = []
        for seen_at, count in sightings:
            delays += [max(0.0, seen_at - at) for at in self.accepted_at[len(delays) : count]]
        return delays


class Watch:
    """Polls the lanes' counts until told to stop, and keeps when it saw which."""

    def __init__(self, counts: Callable[[], Awaitable[Counts]], poll_s: float) -> None:
        self._counts = counts
        self._poll_s = poll_s
        self.sightings: list[list[tuple[float, int]]] = [[] for _ in range(PARTITIONS)]
        self.before: Counts = []

    async def begin(self) -> None:
        self.before = await self._counts()

    async def until(self, lanes: Sequence[Lane], sent: "asyncio.Task[None]") -> None:
        """Polls until all is sent and everything sent was seen."""
        deadline = time.perf_counter() + VISIBLE_WITHIN_S
        while True:
            is_sent = sent.done()
            counts = await self._counts()
            now = time.perf_counter()
            new = [count - before for count, before in zip(counts, self.before, strict=True)]
            for sightings, count in zip(self.sightings, new, strict=True):
                sightings.append((now, count))
            if is_sent and all(count >= len(lane.accepted_at) for count, lane in zip(new, lanes, strict=True)):
                return
            if now > deadline:
                raise BenchError(f"not all visible after {VISIBLE_WITHIN_S:g} s: {new}")
            await asyncio.sleep(self._poll_s)

    def delays_ms(self, lanes: Sequence[Lane]) -> list[float]:
        pairs = zip(lanes, self.sightings, strict=True)
        return [delay * 1000 for lane, sightings in pairs for delay in lane.delays(sightings)]


async def usage_counts(rig: Rig) -> Counts:
    counts = [0] * PARTITIONS
    for item in (await rig.usage(group_by="lane")).items:
        lane = item.dimensions.get("lane")
        if lane:
            counts[int(lane)] = int(item.value or 0)
    return counts


async def check_counts(caller: Caller) -> Counts:
    asked = [{"customer": lane_customer(number), "feature": FEATURE} for number in range(PARTITIONS)]
    answers = msgspec.convert(await caller.call("POST", "/v1/check", asked), list[Checked])
    return [int(answer.usage or 0) for answer in answers]


async def send(rig: Rig, lanes: Sequence[Lane]) -> None:
    """RATE events a second, on one connection, so that the log has them in the order sent."""
    async with connected(rig.target, 1) as [connection]:
        begun = time.perf_counter()
        for number in range(int(rig.scale.freshness_s * RATE / SIZE)):
            await asyncio.sleep(max(0.0, begun + number * SIZE / RATE - time.perf_counter()))
            body, counts = rig.events.lane_body(SIZE)
            check_status(await connection.ask(rig.target.request("POST", "/v1/events", body)), 202)
            accepted_at = time.perf_counter()
            for lane, count in zip(lanes, counts, strict=True):
                lane.accepted_at += [accepted_at] * count


async def once(rig: Rig, caller: Caller) -> tuple[list[float], list[float]]:
    """Milliseconds until visible in usage, and in check, of every event of a repeat."""
    lanes = [Lane() for _ in range(PARTITIONS)]
    usage = Watch(lambda: usage_counts(rig), USAGE_POLL_S)
    check = Watch(lambda: check_counts(caller), CHECK_POLL_S)
    await usage.begin()
    await check.begin()
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(send(rig, lanes))
        group.create_task(usage.until(lanes, sending))
        group.create_task(check.until(lanes, sending))
    return usage.delays_ms(lanes), check.delays_ms(lanes)


async def run(rig: Rig) -> list[Measured]:
    await rig.checks_ready()
    async with connected(rig.target, 1) as [connection]:
        caller = Caller(rig.target, connection)
        repeats = [await once(rig, caller) for _ in range(rig.scale.repeats)]
    return [
        Measured(
            scenario=NAME,
            figure=f"at {RATE:,} events/s, visible in {where}, p{percent}",
            unit="ms",
            values=tuple(percentile(delays[place], percent) for delays in repeats),
        )
        for place, where in enumerate(("usage", "check"))
        for percent in PERCENTS
    ]
