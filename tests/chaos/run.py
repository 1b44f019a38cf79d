"""One run: a world, a load, a plan of faults; then quiet, and everything that was counted beside the truth."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

from demo.client import Client
from demo.verify import Differences
from runtime.clock import Clock, SystemClock
from runtime.settings import KafkaSettings
from schemas.topics import CATALOG_CHANGED, USAGE_RAW
from tests.chaos.compare import Comparison
from tests.chaos.contracts import COHORTS, HUGE, STANDING, cohort, create_catalog, hours_begin
from tests.chaos.faults import Faults, Survived
from tests.chaos.foreign import Foreign
from tests.chaos.load import ANSWER_WITHIN_S, SPAN, Load
from tests.chaos.plan import Fault
from tests.chaos.probe import Probe
from tests.chaos.report import Result
from tests.chaos.subscribe import Subscriptions
from tests.chaos.truth import Truth, answers_hold, truth_of
from tests.chaos.world import World, running_world
from tests.support.pipeline import read_topic

RATE = 500.0
# Later faults hold a recovery up: it is measured to the end, and what has not come by then never comes.
RECOVERY_WITHIN_S = 240.0
SETTLED_WITHIN_S = 150.0
CLOSED_WITHIN_S = 90.0
CHECKED_WITHIN_S = 30.0
BETWEEN_S = 0.5
RAW_PARTITIONS = KafkaSettings().raw_partitions

# What makes balances right again by itself must have had nothing to do: else what keeps them right has failed unseen.
HEALING = ("a balance differs from the usage", "balances are made good")

Say = Callable[[str], None]


class Run:
    """The parts of one run, in the order of its methods."""

    def __init__(self, world: World, session: aiohttp.ClientSession, *, seed: int, seconds: float, say: Say) -> None:
        self.differences = Differences(quiet=True)
        self._world = world
        self._session = session
        self._client = Client(session)
        self._clock: Clock = SystemClock()
        self._began_at = self._clock.now()
        self._say = say
        self._seed = seed
        self._probe = Probe(session, meter="calls", customer=HUGE, feature="calls")
        self._load = Load(session, seed=seed, rate=RATE, seconds=seconds, clock=self._clock)
        self._billed_from = hours_begin(self._began_at)
        self._standing_since = (self._began_at - SPAN - timedelta(hours=1)).replace(microsecond=0)
        self._subscriptions = Subscriptions(session, self._billed_from)

    async def under_faults(self, plan: Sequence[Fault]) -> list[Survived]:
        """Load and faults side by side, and in between customers that are subscribed and billed."""
        await create_catalog(self._client, self._standing_since)
        foreign = Foreign(self._world.kafka.address, self._load, seed=self._seed, partitions=RAW_PARTITIONS)
        watching = asyncio.create_task(self._probe.watch())
        producing: asyncio.Task[None] | None = None
        try:
            await self._wait("checks know the first customers", self._first_checks, CHECKED_WITHIN_S)
            faults = Faults(self._world, self._probe, self._clock, say=self._say)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._load.run())
                await asyncio.sleep(0)  # it knows when it began
                producing = asyncio.create_task(foreign.run())
                group.create_task(self._subscribe_cohorts())
                happening = group.create_task(faults.run(plan, RECOVERY_WITHIN_S))
            producing.cancel()
            await asyncio.wait([producing])
            await self._quiet()
        finally:
            for task in (producing, watching):
                if task is not None:
                    task.cancel()
        return happening.result()

    async def _first_checks(self) -> bool:
        return self._probe.shows(self._began_at)

    async def _subscribe_cohorts(self) -> None:
        for number in range(COHORTS):
            await asyncio.sleep(self._load.seconds_until_complete(number))
            with contextlib.suppress(TimeoutError):  # faults may hold it up: then some of its events come late
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    await self._probe.seconds_until_visible(self._clock.now())
            for customer in cohort(number):
                await self._subscriptions.add(customer)

    async def _quiet(self) -> None:
        """No fault any more, nothing under way, and everything visible that was accepted."""
        self._world.mend()
        last = self._load.answers.last_unanswered_at
        if last:
            await asyncio.sleep(max(0.0, last + ANSWER_WITHIN_S - time.monotonic()))
        ended = self._clock.now()
        self._say("no faults any more; waiting until everything is visible")
        try:
            async with asyncio.timeout(SETTLED_WITHIN_S):
                waited = await self._probe.seconds_until_visible(ended)
            self._say(f"visible after {waited:.1f} s")
        except TimeoutError:
            seen = f"usage as of {self._probe.usage_as_of}, checks as of {self._probe.checks_as_of}"
            self.differences.compare(f"visible within {SETTLED_WITHIN_S:g} s", seen, ended)

    async def compared(self, survived: Sequence[Survived]) -> Result:
        """Every number beside the truth."""
        truth = await self._truth()
        answers_hold(truth, self._load.answers, self.differences)
        self.differences.compare("answers that were wrong in themselves", self._load.answers.wrong[:5], [])
        for one in survived:
            if one.recovered_s is None:
                self.differences.compare(f"recovery from {one.fault}", f"not in {RECOVERY_WITHIN_S:g} s", "recovered")
        comparison = Comparison(self._world, self._client, truth, self.differences)
        await comparison.events()
        billed = [customer for number in range(COHORTS) for customer in cohort(number)]
        since = self._standing_since.replace(minute=0, second=0)
        await comparison.usage([*STANDING, *billed], since, self._clock.now() + timedelta(hours=1))
        await self._balances(truth, billed)
        closed_until = self._clock.now()
        await self._wait(
            "every elapsed hour is billed", lambda: self._all_billed(len(billed), closed_until), CLOSED_WITHIN_S
        )
        starts = dict.fromkeys(billed, self._billed_from)
        invoices = await comparison.invoices(starts, closed_until, self._load.answers)
        sums = await comparison.reconciliation()
        for line in await asyncio.to_thread(healed, self._world.data):
            self.differences.compare("what a balances worker made good by itself", line, "nothing")
        return Result(
            seed=self._seed,
            survived=survived,
            counts=self._load.answers.counts,
            spoiled=self._world.spoiled(),
            stored=sums["stored"],
            duplicates=sums["duplicate"],
            rejected=sums["rejected"],
            invoices=invoices,
            compared=self.differences.compared,
            differences=self.differences.found,
            logs=self._world.data,
        )

    async def _truth(self) -> Truth:
        bootstrap = self._world.endpoints.kafka_bootstrap
        raw = await read_topic(bootstrap, USAGE_RAW, RAW_PARTITIONS)
        catalog = await read_topic(bootstrap, CATALOG_CHANGED, 1)
        return await asyncio.to_thread(truth_of, raw, catalog, RAW_PARTITIONS)

    async def _balances(self, truth: Truth, billed: Sequence[str]) -> None:
        """Each customer's checks stand on its own partition's freshness: asked again until they are right."""
        plans = dict.fromkeys(STANDING, "standing") | dict.fromkeys(billed, "hourly")
        starts = dict.fromkeys(STANDING, self._standing_since) | dict.fromkeys(billed, self._billed_from)
        deadline = time.monotonic() + CHECKED_WITHIN_S
        while True:
            trial = Differences(quiet=True)
            await Comparison(self._world, self._client, truth, trial).balances(plans, starts)
            if not trial.found or time.monotonic() > deadline:
                break
            await asyncio.sleep(BETWEEN_S)
        self.differences.compared += trial.compared
        self.differences.found += trial.found

    async def _all_billed(self, customers: int, until: datetime) -> bool:
        hours = (until - self._billed_from) // timedelta(hours=1)
        return len(await self._client.all("/v1/invoices")) >= customers * hours

    async def _wait(self, what: str, done: Callable[[], Any], within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while not await done():
            if time.monotonic() > deadline:
                self.differences.compare(what, f"not within {within_s:g} s", "done")
                return
            await asyncio.sleep(BETWEEN_S)


def healed(data: Path) -> list[str]:
    """Lines of the balances workers' logs that say so."""
    logs = sorted((data / "logs").glob("worker-balances*.log"))
    lines = [f"{log.stem}: {line}" for log in logs for line in log.read_text(errors="replace").splitlines()]
    return [line for line in lines if any(sign in line for sign in HEALING)]


@contextlib.asynccontextmanager
async def session_of(world: World) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {world.api_key}"}
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(world.url, headers=headers, connector=connector, timeout=timeout) as session:
        yield session


async def run_chaos(data: Path, plan: Sequence[Fault], *, seed: int, seconds: float, say: Say) -> Result:
    """A whole run on the directory `data`, which is left with data and logs."""
    async with running_world(data, say=say) as world, session_of(world) as session:
        run = Run(world, session, seed=seed, seconds=seconds, say=say)
        survived = await run.under_faults(plan)
        return await run.compared(survived)
