"""A month of real flights comes in while one process after another is killed: every number is as if nothing had been."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, time
from functools import partial
from typing import Any

import aiohttp
import msgspec
import pandas as pd
import pytest

from demo import verify
from demo.__main__ import load_catalog
from demo.client import Client
from demo.flights import bodies, read_flights
from runtime.clock import SystemClock
from runtime.local.stack import PARTS as SERVERS
from tests.support.system import System
from tests.support.waiting import eventually_async

EVENTS_A_REQUEST = 400
CLIENTS = 4
COPIES = 5_000
SEED = 1
TAKEN_WITHIN_S = 60.0
SETTLED_WITHIN_S = 90.0
CLOSED_WITHIN_S = 60.0

Months = list[tuple[datetime, datetime]]
# The lost answers of a killed API hide whether its requests were logged; 503 and closed connections are sent again.
RETRIED = {429, 503}


@pytest.fixture(scope="module")
def months() -> Months:
    """One: the last whole month that a subscription begun at a midnight has been through."""
    end = pd.Timestamp(datetime.combine(SystemClock().now().date(), time(), UTC))
    start = end - pd.DateOffset(months=1)
    return [(start.to_pydatetime(), (start + pd.DateOffset(months=1)).to_pydatetime())]


@pytest.fixture(scope="module")
def flights(months: Months) -> pd.DataFrame:
    """The flights of January, moved into the month."""
    (start, end), year = months[0], read_flights(months[0][0])
    return year[(year["at"] >= start) & (year["at"] < end)]


class Month:
    """One tenant's flights on their way in, and what must come of them."""

    def __init__(self, session: aiohttp.ClientSession, flights: pd.DataFrame, months: Months) -> None:
        self.client = Client(session)
        self.flights = flights
        self.months = months
        self.airlines = sorted(str(airline) for airline in flights["carrier"].unique())
        self.accepted = 0
        self.unsure = 0
        self._session = session

    @property
    def sent(self) -> int:
        """Each flight once, and some of them twice."""
        return len(self.flights) + COPIES

    async def subscribe(self) -> None:
        """The demo's catalog, and each airline from the first instant of the month on: it is due from then on."""
        await load_catalog(self.client, self.airlines, self.months[0][0])

    async def send(self, kill: Callable[[], object]) -> None:
        """Everything from several clients at once, with `kill` after a quarter."""
        twice = pd.concat([self.flights, self.flights.sample(COPIES, random_state=SEED)])
        waiting = iter(bodies(twice.sample(frac=1, random_state=SEED), EVENTS_A_REQUEST))

        async def one_client() -> None:
            for body in waiting:
                await eventually_async(partial(self._took, body), TAKEN_WITHIN_S, every_s=0.2)

        sending = asyncio.gather(*(one_client() for _ in range(CLIENTS)))
        await eventually_async(lambda: self.accepted > self.sent // 4, TAKEN_WITHIN_S, every_s=0.01)
        await asyncio.to_thread(kill)
        await sending
        assert self.accepted == self.sent

    async def _took(self, body: bytes) -> bool:
        try:
            async with self._session.post("/v1/events", data=body) as answer:
                text = await answer.read()
        except aiohttp.ClientConnectionError:
            self.unsure += EVENTS_A_REQUEST
            return False
        if answer.status in RETRIED:
            self.unsure += EVENTS_A_REQUEST
            return False
        taken = msgspec.json.decode(text)
        assert answer.status == 202, taken
        assert taken["rejected"] == []
        self.accepted += taken["accepted"]
        return True

    async def settled(self) -> None:
        """Each event is stored once, and each copy counted; requests that were sent again are copies too."""
        hours = await eventually_async(self._all_hours, SETTLED_WITHIN_S, every_s=0.2)
        assert hours["difference"] == 0
        found = {name: sum(hour[name] for hour in hours["items"]) for name in ("stored", "duplicate", "rejected")}
        assert found["stored"] == len(self.flights)
        assert COPIES <= found["duplicate"] <= COPIES + self.unsure
        assert found["rejected"] == 0

    async def _all_hours(self) -> dict[str, Any]:
        async with self._session.get("/v1/reconciliation") as answer:
            hours: dict[str, Any] = msgspec.json.decode(await answer.read())
        assert answer.status == 200, hours
        assert sum(hour["accepted"] for hour in hours["items"]) >= self.sent
        return hours

    async def usage_is_exact(self) -> None:
        differences = verify.Differences(quiet=True)
        await verify.usage(self.client, self.flights, self.months, differences)
        assert differences.found == []
        assert differences.compared > len(self.airlines)

    async def checks_are_right(self) -> None:
        flown = {str(airline): int(count) for airline, count in self.flights["carrier"].value_counts().items()}

        async def right() -> bool:
            differences = verify.Differences(quiet=True)
            try:
                await verify.checks(self.client, flown, differences)
            except RuntimeError as error:  # the client's word for an answer that is no success
                raise AssertionError(str(error)) from error
            assert differences.found == []
            return True

        await eventually_async(right, SETTLED_WITHIN_S, every_s=0.2)

    async def invoiced(self) -> int:
        return len(await self.client.all("/v1/invoices"))

    async def invoices_are_right(self) -> None:
        """One for each airline, each line as rated by hand."""

        async def all_closed() -> bool:
            return await self.invoiced() >= len(self.airlines)

        await eventually_async(all_closed, CLOSED_WITHIN_S, every_s=0.2)
        differences = verify.Differences(quiet=True)
        await verify.invoices(self.client, self.flights, self.months, differences)
        assert differences.found == []


numbers = itertools.count(1)


@asynccontextmanager
async def month_of(system: System, flights: pd.DataFrame, months: Months) -> AsyncIterator[Month]:
    """In a tenant of its own."""
    key = await asyncio.to_thread(system.new_key, f"kill-{next(numbers)}")
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(system.base_url, headers=headers, timeout=timeout) as session:
        yield Month(session, flights, months)


@asynccontextmanager
async def only_replaced(system: System, name: str) -> AsyncIterator[None]:
    """Inside, this process comes to be another one; no other process has exited."""
    before = system.pids()
    yield
    await eventually_async(lambda: system.pid(name) != before[name], TAKEN_WITHIN_S)
    assert {**system.pids(), name: 0} == {**before, name: 0}


def kill(system: System, name: str) -> None:
    system.kill(name)
    if name in SERVERS:
        system.start_again(name)


@pytest.mark.parametrize("killed", ["worker-ingest", "worker-balances", "api", "clickhouse"])
async def test_a_month_comes_out_the_same_although_a_process_was_killed(
    system: System, flights: pd.DataFrame, months: Months, killed: str
) -> None:
    async with month_of(system, flights, months) as month, only_replaced(system, killed):
        with system.closing_paused():
            await month.subscribe()
            await month.send(lambda: kill(system, killed))
            await month.settled()
            await month.usage_is_exact()
            await month.checks_are_right()
        await month.invoices_are_right()


async def test_each_invoice_is_made_once_although_the_closing_worker_was_killed(
    system: System, flights: pd.DataFrame, months: Months
) -> None:
    async with month_of(system, flights, months) as month, only_replaced(system, "temporal-worker"):
        with system.closing_paused():
            await month.subscribe()
            await month.send(lambda: None)
            await month.settled()
        await _until_begun(month.invoiced)
        system.kill("temporal-worker")
        await month.invoices_are_right()
        await month.usage_is_exact()
        await month.checks_are_right()


async def _until_begun(invoiced: Callable[[], Awaitable[int]]) -> None:
    async def begun() -> bool:
        return await invoiced() > 0

    await eventually_async(begun, CLOSED_WITHIN_S, every_s=0.02)
