"""From HTTP to visible: the highest rate that is held without a growing lag, the load generator included.

A rate is held when what is accepted and not yet visible does not grow: the rate is looked for in short trials between
what becomes visible under a flood and what is accepted of it, and is then held for long. Its spread is that of six slices.
"""

import asyncio
import os
import time
from statistics import linear_regression

import msgspec

from bench.figures import Measured
from bench.ledger import DoneBlock
from bench.load import BenchError, Load, connected, drive, pace
from bench.processes import Cost
from bench.rig import Rig

NAME = "end-to-end"
SIZE, CLIENTS = 1000, 16
SLICES = 6
TRIALS, HOLDS = 5, 4
# A steady flow has a block of every partition on its way; the time until it is steady is not looked at.
LAG_MAX_S = 5.0
LEAD_S = 2.0
GROWTH_MAX = 0.01
TRIAL_GROWTH_MAX = 0.05
LESS = 0.93
_SAMPLED_S = 0.25
_KEPT_UP = 0.99


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a rate. `lags` are events accepted and not visible, at seconds since the beginning."""

    rate: float
    seconds: float
    accepted: int
    lags: list[tuple[float, int]]
    blocks: list[DoneBlock]
    begun: float
    load: Load

    @property
    def lag_s(self) -> float:
        """The longest lag once the flow was steady, in time at this rate."""
        return max(lag for at, lag in self.lags if at >= min(LEAD_S, self.seconds / 2)) / self.rate

    def grows(self, at_most: float) -> bool:
        """Whether the lag grows by more than this share of the rate, or has been too long."""
        steady = [(at, lag) for at, lag in self.lags if at >= LEAD_S]
        if self.lag_s > LAG_MAX_S or self.accepted < _KEPT_UP * self.rate * self.seconds:
            return True
        if len(steady) < SLICES:
            return False
        slope = linear_regression([at for at, _ in steady], [lag for _, lag in steady]).slope
        return slope > at_most * self.rate

    @property
    def visible(self) -> float:
        """Events a second that became visible while requests were sent."""
        until = self.begun + self.load.seconds
        return sum(block.events for block in self.blocks if block.done_at <= until) / self.load.seconds

    @property
    def slices(self) -> tuple[float, ...]:
        """Events a second that became visible in each slice."""
        length = (self.seconds - LEAD_S) / SLICES
        begins = [self.begun + LEAD_S + number * length for number in range(SLICES)]
        return tuple(
            sum(block.events for block in self.blocks if begin < block.done_at <= begin + length) / length
            for begin in begins
        )


async def run(rig: Rig) -> list[Measured]:
    rate = await find(rig)
    for _ in range(HOLDS):
        cost = Cost(rig.processes)
        held = await hold(rig, rate, rig.scale.hold_s + LEAD_S, cost)
        if rig.scale.quick or not held.grows(GROWTH_MAX):  # the quick form judges nothing
            return figures(held, cost)
        rate = LESS * min(rate, held.visible)
    raise BenchError(f"no rate was held; the last was {held.rate:,.0f} events/s with a lag of {held.lag_s:.1f} s")


def figures(held: Held, cost: Cost) -> list[Measured]:
    """The ceiling: the rate at which what an event costs would take all the time of all cores."""
    label = f"held for {held.seconds - LEAD_S:.0f} s, {SIZE:,} events a request"
    most = (os.cpu_count() or 1) / cost.seconds_an_event
    return [
        Measured(scenario=NAME, figure=f"{label}", unit="events/s", values=held.slices, ceiling=most),
        Measured(scenario=NAME, figure="longest lag while held", unit="s", values=(held.lag_s,)),
        *[
            Measured(
                scenario=NAME,
                figure=f"request while held, p{percent}",
                unit="ms",
                values=(held.load.latency_ms(percent),),
            )
            for percent in (50, 99)
        ],
        *cost.measured(NAME, "held"),
    ]


async def find(rig: Rig) -> float:
    """The highest rate that a trial has held, between what becomes visible under a flood and what is accepted of it."""
    low, high = await flood(rig)
    for _ in range(0 if rig.scale.quick else TRIALS):
        rate = (low + high) / 2
        held = await hold(rig, rate, rig.scale.search_s + LEAD_S)
        if held.grows(TRIAL_GROWTH_MAX):
            high = rate
        else:
            low = rate
    return low


async def flood(rig: Rig) -> tuple[float, float]:
    """Events a second that became visible, and that were accepted, with as many requests as there are clients for."""
    begun, made = await rig.ledger.now(), rig.events.made
    async with connected(rig.target, CLIENTS) as connections:
        load = await drive(connections, rig.requests(SIZE), expected=202, within_s=rig.scale.search_s)
    accepted = (rig.events.made - made) / load.seconds
    visible = await rig.ledger.stored_after(begun) / load.seconds
    await rig.ledger.caught_up()
    return max(visible, accepted / 10), accepted


async def hold(rig: Rig, rate: float, seconds: float, cost: Cost | None = None) -> Held:
    """Events at this rate for so long, or until the lag is too long; returns when all of them are visible."""
    begun, made = await rig.ledger.now(), rig.events.made
    lags: list[tuple[float, int]] = []
    began_at = time.perf_counter()
    before = rig.processes.usage()

    def goes_on() -> bool:
        too_late = bool(lags) and lags[-1][1] > 2 * LAG_MAX_S * rate
        return time.perf_counter() - began_at < seconds and not too_late

    stopped = asyncio.Event()

    async def sample() -> None:
        while not stopped.is_set():
            stored = await rig.ledger.stored_after(begun)
            lags.append((time.perf_counter() - began_at, rig.events.made - made - stored))
            await asyncio.sleep(_SAMPLED_S)

    sampling = asyncio.create_task(sample(), name="lag")
    try:
        per_second = rate / SIZE
        # Connections of its own: the server ends those that say nothing while a former rate's lag is waited for.
        async with connected(rig.target, CLIENTS) as connections:
            load = await pace(connections, rig.requests(SIZE), expected=202, per_second=per_second, go_on=goes_on)
    finally:
        stopped.set()
        await sampling
    accepted = rig.events.made - made
    await rig.ledger.caught_up()
    if cost is not None:
        cost.add(before, accepted)
    return Held(
        rate=rate,
        seconds=seconds,
        accepted=accepted,
        lags=lags,
        blocks=await rig.ledger.done_after(begun),
        begun=begun,
        load=load,
    )
