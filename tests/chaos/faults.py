"""Makes faults happen, takes them away again, and measures how long the system needs after each."""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from runtime.clock import Clock
from runtime.local.errors import PartFailedError
from tests.chaos.plan import Fault, Kind
from tests.chaos.probe import Probe
from tests.chaos.world import INSERT_DEADLINE_S, World
from tests.support.waiting import eventually_async

DELAY_S = 0.15
# A little before or a little after the deadline of the insert that is held up.
LATE_S = (INSERT_DEADLINE_S - 1, INSERT_DEADLINE_S + 1.5)
START_TRIES = 3
INSERT_COMES_WITHIN_S = 20.0


class Survived(msgspec.Struct, frozen=True, kw_only=True):
    """A fault of the plan. `recovered_s`: from its end until everything accepted by then was visible; None: never.

    One without `effect` waited for an INSERT that did not come: it is none that was survived.
    """

    fault: Fault
    effect: bool = True
    recovered_s: float | None


class Faults:
    """Runs a plan against a world. Two faults of one target come one after the other, others may overlap."""

    def __init__(self, world: World, probe: Probe, clock: Clock, *, say: Callable[[str], None]) -> None:
        self._world = world
        self._probe = probe
        self._clock = clock
        self._say = say
        self._busy: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._began = 0.0

    async def run(self, plan: Sequence[Fault], recovery_within_s: float) -> list[Survived]:
        """All of the plan, from now on. Raises PartFailedError when a server does not come back."""
        self._began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._one(fault, recovery_within_s)) for fault in plan]
        return [task.result() for task in tasks]

    async def _one(self, fault: Fault, recovery_within_s: float) -> Survived:
        await asyncio.sleep(max(0.0, self._began + fault.at_s - time.monotonic()))
        async with self._busy[fault.target]:
            self._say(f"{time.monotonic() - self._began:6.1f} s  {fault.kind}: {fault.target}")
            effect = await self._make(fault)
        ended = self._clock.now()
        return Survived(fault=fault, effect=effect, recovered_s=await self._recovered(ended, recovery_within_s))

    async def _recovered(self, ended: datetime, within_s: float) -> float | None:
        try:
            async with asyncio.timeout(within_s):
                return await self._probe.seconds_until_visible(ended)
        except TimeoutError:
            return None

    async def _make(self, fault: Fault) -> bool:
        """Whether it had an effect."""
        world = self._world
        match fault.kind:
            case Kind.KILL_INGEST | Kind.KILL_BALANCES | Kind.KILL_API | Kind.KILL_OTHER:
                world.kill(fault.target)
            case Kind.KILL_CLICKHOUSE | Kind.KILL_KAFKA | Kind.KILL_POSTGRES | Kind.KILL_TEMPORAL:
                world.kill(fault.target)
                await asyncio.sleep(fault.lasts_s)
                await self._start_again(fault.target)
            case Kind.RESTART_POSTGRES:
                await self._start_again(fault.target)
            case Kind.PAUSE_INGEST | Kind.PAUSE_BALANCES:
                pid = world.pause(fault.target)
                await asyncio.sleep(fault.lasts_s)
                world.resume(pid)
            case Kind.LEAVE:
                await world.leave(fault.target)
                await asyncio.sleep(fault.lasts_s)
                world.join(fault.target)
            case Kind.CUT | Kind.HOLD | Kind.DELAY:
                await self._network(fault)
            case Kind.INSERTS_BEFORE | Kind.INSERTS_AFTER | Kind.INSERTS_LATE:
                return await self._inserts(fault)
            case Kind.DISK_FULL:
                if not world.fill_disk(fault.target):
                    world.limit_files(fault.target)
                await asyncio.sleep(fault.lasts_s)
                world.free_disk(fault.target)
        return True

    async def _network(self, fault: Fault) -> None:
        app, _, server = fault.target.partition("/")
        link = self._world.link(app, server)
        match fault.kind:
            case Kind.CUT:
                link.cut()
            case Kind.HOLD:
                link.hold()
            case _:
                link.delay(DELAY_S)
        await asyncio.sleep(fault.lasts_s)
        link.mend()

    async def _inserts(self, fault: Fault) -> bool:
        """Into `events` alone when they are late: nothing else has a deadline."""
        link = self._world.inserts(fault.target)
        if fault.fate is None:
            raise ValueError("an insert's fault names its fate")
        late_s = LATE_S[fault.times % 2]
        table = "events" if fault.kind is Kind.INSERTS_LATE else ""
        link.next_insert(fault.fate, times=fault.times, late_s=late_s, table=table)
        spoiled = link.happened[fault.fate]
        await asyncio.sleep(fault.lasts_s)
        # A worker that is down, or without a partition, inserts nothing.
        fate = fault.fate
        with contextlib.suppress(AssertionError):
            await eventually_async(lambda: link.happened[fate] > spoiled, INSERT_COMES_WITHIN_S)
        link.forget_inserts()
        return link.happened[fate] > spoiled

    async def _start_again(self, server: str) -> None:
        for left in reversed(range(START_TRIES)):
            try:
                return await self._world.start_again(server)
            except PartFailedError:
                if not left:
                    raise
        return None
