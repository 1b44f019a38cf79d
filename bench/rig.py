"""The system under test: everything on a directory of its own, with a small catalog, and how far it has come."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from bench.events import CUSTOMERS, EVENT_TYPE, EventSource, lane_customer
from bench.ledger import BlockLedger, block_ledger
from bench.load import BenchError, Caller, Target, connected, target_of
from bench.processes import Processes
from cli.system import ONE_OF_EACH, LocalSystem, SystemAddress, settings_environment, worker_names
from runtime.clock import SystemClock
from runtime.settings import KafkaSettings

METER, FEATURE, PLAN = "requests", "requests", "standard"
LIMIT = "1000000000"
PARTITIONS = KafkaSettings().raw_partitions
READY_WITHIN_S = 60.0
VISIBLE_WITHIN_S = 90.0
WARM_UP_EVENTS = 20_000
CALLERS = 8
SETTINGS = {"METERSTREAM_CLOSING_SCHEDULE_PAUSED": "true"}
_POLL_S = 0.02


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured. `quick` shows that everything works, and no more."""

    repeats: int = 3
    load_s: float = 2.0  # of a repeat whose length is a time
    events: int = 100_000  # of a repeat whose length is a number of events
    freshness_s: float = 6.0  # at one rate, twice
    pipeline_events: int = 400_000  # in the log before the worker comes
    search_s: float = 6.0  # at a rate that may be too high
    hold_s: float = 60.0  # at the rate that is not
    quick: bool = False


FULL = Scale()
QUICK = Scale(
    repeats=1, load_s=0.5, events=5_000, freshness_s=1.5, pipeline_events=60_000, search_s=2.0, hold_s=3.0, quick=True
)


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """One run of benchmarks: what a scenario that starts servers of its own needs to know."""

    data: Path
    scale: Scale
    say: Callable[[str], None]


class LaneAnswer(msgspec.Struct, frozen=True):
    """Of an item of `/v1/usage` what is read here."""

    value: str | None
    dimensions: dict[str, str | None]


class UsageTotals(msgspec.Struct, frozen=True):
    items: list[LaneAnswer]
    total: str | None


class Checked(msgspec.Struct, frozen=True):
    """Of an answer to a check what is read here. The usage is null while it is not known."""

    usage: str | None = None


class Rig(msgspec.Struct, frozen=True, kw_only=True):
    """What scenarios work with. `environment` is that of our processes."""

    target: Target
    caller: Caller
    address: SystemAddress
    system: LocalSystem
    environment: Mapping[str, str]
    ledger: BlockLedger
    processes: Processes
    events: EventSource
    usage_range: dict[str, str]
    scale: Scale

    def requests(self, size: int) -> Iterator[bytes]:
        """Requests of `size` events without end: every one that is taken is to be sent."""
        return self.events.requests(size, self.encode)

    def encode(self, body: bytes) -> bytes:
        return self.target.request("POST", "/v1/events", body)

    @asynccontextmanager
    async def without(self, app: str) -> AsyncIterator[None]:
        """Inside, one of our processes is away; after that it starts again."""
        if self.system.apps is None:
            raise RuntimeError("the system was not started")
        await self.system.apps.leave(app)
        try:
            yield
        finally:
            self.system.apps.join(app)

    async def begin_anew(self) -> None:
        """After a scenario that failed: what is there by now counts as made, so that the others can be measured."""
        await self.ledger.caught_up()
        self.events.made = int((await self.usage()).total or 0)

    @contextmanager
    def frozen(self, *apps: str) -> Iterator[None]:
        """Inside, some of our processes stand still; they must not for longer than their sessions last."""
        if self.system.apps is None:
            raise RuntimeError("the system was not started")
        pids = [self.system.apps.pid(app) for app in apps]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    async def usage(self, **query: str) -> UsageTotals:
        """Usage of the meter over all event times there are."""
        return msgspec.convert(await self.caller.call("GET", self.usage_path("", **query)), UsageTotals)

    def usage_path(self, more: str, **query: str) -> str:
        return f"/v1/usage{more}?{urlencode({'meter': METER, **self.usage_range, **query})}"

    async def settled(self) -> float:
        """Waits until every event that was made is visible in usage; when that was seen (perf_counter)."""
        await self.ledger.caught_up()  # asks a small table, so that waiting itself takes nothing from the others
        deadline = time.perf_counter() + VISIBLE_WITHIN_S
        while (seen := int((await self.usage()).total or 0)) != self.events.made:
            if time.perf_counter() > deadline:
                raise BenchError(f"{seen:,} of {self.events.made:,} events visible after {VISIBLE_WITHIN_S:g} s")
            await asyncio.sleep(_POLL_S)
        return time.perf_counter()

    async def checks_ready(self) -> None:
        """Waits until the checks of all customers count every event that was made."""
        await self.settled()
        names = customer_names()
        asked = [{"customer": name, "feature": FEATURE} for name in names]
        deadline = time.perf_counter() + VISIBLE_WITHIN_S
        while (seen := await self._checked(asked)) != self.events.made:
            if time.perf_counter() > deadline:
                raise BenchError(f"checks count {seen:,} of {self.events.made:,} events after {VISIBLE_WITHIN_S:g} s")
            await asyncio.sleep(_POLL_S)

    async def _checked(self, asked: Sequence[dict[str, str]]) -> int:
        answers = msgspec.convert(await self.caller.call("POST", "/v1/check", asked), list[Checked])
        return sum(int(answer.usage or 0) for answer in answers)


def customer_names() -> list[str]:
    return [f"customer-{number}" for number in range(CUSTOMERS)] + [lane_customer(one) for one in range(PARTITIONS)]


def _minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


async def load_catalog(caller: Caller) -> None:
    """Two meters that every event matches, a feature, and a plan with a limit far away."""
    counted = {"key": METER, "aggregation": "count", "event_types": [EVENT_TYPE], "dimensions": ["lane"]}
    summed = {"key": "tokens", "aggregation": "sum", "value_property": "tokens"}
    await caller.call("POST", "/v1/meters", counted)
    await caller.call("POST", "/v1/meters", {**summed, "event_types": [EVENT_TYPE], "dimensions": ["model"]})
    await caller.call("POST", "/v1/features", {"key": FEATURE, "kind": "metered", "meter": METER})
    price = {"key": "tokens", "meter": "tokens", "price": {"model": "per_unit", "unit_amount": "0.0001"}}
    held = {"type": "metered", "feature": FEATURE, "limit": LIMIT, "usage_period": "never"}
    plan = {"key": PLAN, "name": "Standard", "currency": "USD", "prices": [price], "entitlements": [held]}
    await caller.call("POST", "/v1/plans", plan)


async def add_customers(callers: Sequence[Caller], start_at: datetime) -> None:
    """Each holds the plan."""
    waiting = iter(customer_names())

    async def add(caller: Caller) -> None:
        for name in waiting:
            await caller.call("POST", "/v1/customers", {"external_id": name})
            subscription = {"customer": name, "plan": PLAN, "start_at": start_at.isoformat()}
            await caller.call("POST", "/v1/subscriptions", subscription)

    await asyncio.gather(*(add(caller) for caller in callers))


@asynccontextmanager
async def running(
    bench: Bench,
    *,
    name: str = "system",
    settings: Mapping[str, str] | None = None,
    workers: Mapping[str, int] = ONE_OF_EACH,
    partitions: int = PARTITIONS,
) -> AsyncIterator[Rig]:
    """The whole system in the directory `name` of the run's, loaded and warmed up; stopped in the end.

    `settings` and `workers` as `LocalSystem` has them; `partitions` of usage.raw.
    """
    own = {**SETTINGS, "METERSTREAM_KAFKA_RAW_PARTITIONS": str(partitions), **(settings or {})}
    system = LocalSystem(bench.data / name, say=bench.say, settings=own, workers=workers)
    address = await system.start()
    try:
        target = target_of(address.url, address.api_key)
        processes = Processes(system, ["api", *worker_names(workers), "temporal-worker"])
        async with (
            connected(target, 1) as [connection],
            block_ledger(address.endpoints.postgres_url, address.endpoints.kafka_bootstrap, partitions) as ledger,
            processes.watched(),
        ):
            caller = Caller(target, connection)
            now = SystemClock().now()
            bench.say("loading the catalog")
            await load_catalog(caller)
            async with connected(target, CALLERS) as connections:
                callers = [Caller(target, connection) for connection in connections]
                await add_customers(callers, _minute(now) - timedelta(hours=2))
            # Whole minutes, so that answers come from the windows alone.
            span = {"from": _minute(now) - timedelta(hours=1), "to": _minute(now) + timedelta(hours=1)}
            rig = Rig(
                target=target,
                caller=caller,
                address=address,
                system=system,
                environment={**os.environ, **settings_environment(address.endpoints, api_port=0), **own},
                ledger=ledger,
                processes=processes,
                events=EventSource(now, partitions),
                usage_range={name: at.isoformat() for name, at in span.items()},
                scale=bench.scale,
            )
            bench.say(f"warming up with {WARM_UP_EVENTS:,} events")
            for body in rig.events.bodies(WARM_UP_EVENTS // 500, 500):
                await accepted_within(caller, body, READY_WITHIN_S)
            await rig.settled()
            yield rig
    finally:
        await system.stop()


async def accepted_within(caller: Caller, body: bytes, within_s: float) -> None:
    """The first events may come before the API knows the catalog: it says 503, and is asked again."""
    deadline = time.perf_counter() + within_s
    while True:
        try:
            await caller.call("POST", "/v1/events", msgspec.Raw(body))
        except BenchError:
            if time.perf_counter() > deadline:
                raise
            await asyncio.sleep(_POLL_S)
        else:
            return


async def repeated(repeats: int, once: Callable[[], Awaitable[float]]) -> tuple[float, ...]:
    """A value a repeat, one after the other."""
    return tuple([await once() for _ in range(repeats)])
