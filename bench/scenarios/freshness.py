"""How long after its acceptance an event is visible, at steady rates: in `GET /v1/usage`, in `POST /v1/check`, and on the
event stream of the usage.

Each event carries the customer (and the dimension) of its partition, and a partition keeps its order, so the moment at
which a customer's count reaches n is the moment at which its n-th event is visible: every event is a sample. Moments are
taken when the answer has come, so those of usage and check are late by up to one poll.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec

from bench.events import lane_customer
from bench.figures import Measured, percentile
from bench.load import BenchError, Caller, check_status, connected, listening
from bench.rig import FEATURE, PARTITIONS, VISIBLE_WITHIN_S, Checked, LaneAnswer, Rig

NAME = "freshness"
# Events a second, and of these so many a request.
RATES = ((100, 10), (1_000, 50), (10_000, 200))
USAGE_POLL_S = 0.05
CHECK_POLL_S = 0.01
PERCENTS = (50, 95, 99)
PLACES = ("in usage", "in check", "on the event stream")

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
    """What one place shows: when it showed which counts of the lanes, beyond those of the beginning."""

    def __init__(self, before: Counts) -> None:
        self._before = before
        self._sightings: list[list[tuple[float, int]]] = [[] for _ in before]

    def see(self, counts: Counts) -> None:
        now = time.perf_counter()
        for sightings, count, before in zip(self._sightings, counts, self._before, strict=True):
            sightings.append((now, count - before))

    def shows_all(self, lanes: Sequence[Lane]) -> bool:
        seen = [sightings[-1][1] if sightings else 0 for sightings in self._sightings]
        return all(count >= len(lane.accepted_at) for count, lane in zip(seen, lanes, strict=True))

    def delays_ms(self, lanes: Sequence[Lane]) -> list[float]:
        pairs = zip(lanes, self._sightings, strict=True)
        return [delay * 1000 for lane, sightings in pairs for delay in lane.delays(sightings)]


class Items(msgspec.Struct, frozen=True):
    """Of a `snapshot` or `change` what is read here."""

    items: list[LaneAnswer] = []


async def usage_counts(rig: Rig) -> Counts:
    return counts_in([0] * PARTITIONS, (await rig.usage(group_by="lane")).items)


def counts_in(before: Counts, items: Sequence[LaneAnswer]) -> Counts:
    """`before` with what `items` say of some lanes."""
    counts = list(before)
    for item in items:
        lane = item.dimensions.get("lane")
        if lane:
            counts[int(lane)] = int(item.value or 0)
    return counts


async def check_counts(caller: Caller) -> Counts:
    asked = [{"customer": lane_customer(number), "feature": FEATURE} for number in range(PARTITIONS)]
    answers = msgspec.convert(await caller.call("POST", "/v1/check", asked), list[Checked])
    return [int(answer.usage or 0) for answer in answers]


Poll = Callable[[asyncio.Event], Awaitable[None]]


def poll_of(counts: Callable[[], Awaitable[Counts]], watch: Watch, every_s: float) -> Poll:
    """Until it ends: never cancelled, since an answer that nobody takes would be that of the next question."""

    async def poll(ended: asyncio.Event) -> None:
        while not ended.is_set():
            watch.see(await counts())
            await asyncio.sleep(every_s)

    return poll


@asynccontextmanager
async def polling(poll: Poll) -> "AsyncIterator[asyncio.Future[None]]":
    ended = asyncio.Event()
    running = asyncio.ensure_future(poll(ended))
    try:
        yield running
    finally:
        ended.set()
        await running


@asynccontextmanager
async def streamed(rig: Rig, before: Counts) -> AsyncIterator[Watch]:
    """Inside, the watch sees what the event stream says when it says it."""
    watch, counts = Watch(before), before

    def on_event(name: str, data: bytes) -> None:
        nonlocal counts
        if name in {"snapshot", "change"}:
            counts = counts_in(counts, msgspec.json.decode(data, type=Items).items)
            watch.see(counts)

    async with listening(rig.target, rig.usage_path("/stream", group_by="lane"), on_event):
        yield watch


async def send(rig: Rig, lanes: Sequence[Lane], rate: int, size: int) -> None:
    """`rate` events a second, on one connection, so that the log has them in the order sent."""
    async with connected(rig.target, 1) as [connection]:
        begun = time.perf_counter()
        for number in range(int(rig.scale.freshness_s * rate / size)):
            await asyncio.sleep(max(0.0, begun + number * size / rate - time.perf_counter()))
            body, counts = rig.events.lane_body(size)
            check_status(await connection.ask(rig.target.request("POST", "/v1/events", body)), 202)
            accepted_at = time.perf_counter()
            for lane, count in zip(lanes, counts, strict=True):
                lane.accepted_at += [accepted_at] * count


async def once(rig: Rig, caller: Caller, rate: int, size: int) -> list[list[float]]:
    """Milliseconds until visible in each of PLACES, of every event of a repeat.

    Usage by itself: twenty questions a second keep the store busy, which nobody who listens or checks does.
    """
    asked = await in_usage(rig, rate, size)
    return [asked, *await told(rig, caller, rate, size)]


async def in_usage(rig: Rig, rate: int, size: int) -> list[float]:
    lanes = [Lane() for _ in range(PARTITIONS)]
    usage = Watch(await usage_counts(rig))
    async with polling(poll_of(lambda: usage_counts(rig), usage, USAGE_POLL_S)) as polled:
        await send(rig, lanes, rate, size)
        await seen({"in usage": usage}, lanes, polled)
    return usage.delays_ms(lanes)


async def told(rig: Rig, caller: Caller, rate: int, size: int) -> list[list[float]]:
    """In checks and on the event stream."""
    lanes = [Lane() for _ in range(PARTITIONS)]
    before = await usage_counts(rig)
    check = Watch(await check_counts(caller))
    async with (
        streamed(rig, before) as stream,
        polling(poll_of(lambda: check_counts(caller), check, CHECK_POLL_S)) as polled,
    ):
        await send(rig, lanes, rate, size)
        await seen({"in check": check, "on the event stream": stream}, lanes, polled)
    return [check.delays_ms(lanes), stream.delays_ms(lanes)]


async def seen(watches: Mapping[str, Watch], lanes: Sequence[Lane], polled: "asyncio.Future[None]") -> None:
    """Returns once all places show all that was sent."""
    deadline = time.perf_counter() + VISIBLE_WITHIN_S
    while missing := [place for place, watch in watches.items() if not watch.shows_all(lanes)]:
        if polled.done():
            polled.result()
        if time.perf_counter() > deadline:
            raise BenchError(f"not all visible after {VISIBLE_WITHIN_S:g} s: {', '.join(missing)}")
        await asyncio.sleep(CHECK_POLL_S)


async def run(rig: Rig) -> list[Measured]:
    await rig.checks_ready()
    return [measured for rate, size in RATES for measured in await run_rate(rig, rate, size)]


async def run_rate(rig: Rig, rate: int, size: int) -> list[Measured]:
    async with connected(rig.target, 1) as [connection]:
        caller = Caller(rig.target, connection)
        repeats = [await once(rig, caller, rate, size) for _ in range(rig.scale.repeats)]
    return [
        Measured(
            scenario=NAME,
            figure=f"at {rate:,} events/s, visible {where}, p{percent}",
            unit="ms",
            values=tuple(percentile(delays[place], percent) for delays in repeats),
        )
        for place, where in enumerate(PLACES)
        for percent in PERCENTS
    ]
