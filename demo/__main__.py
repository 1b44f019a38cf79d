"""The main job on real data, proved in front of you: `make demo` (KEEP=1 leaves the system running).

It sends a year of flights twice, kills the ingest worker on the way, closes twelve months, and compares every number.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

import pandas as pd
from rich.console import Console

from cli.system import LocalSystem, SystemAddress
from demo import travel, verify
from demo.catalog import FEATURES, METERS, PLANS, plan_of
from demo.client import Client, connected
from demo.closing import unpause
from demo.flights import EVENT_TYPE, FLIGHTS, bodies, first_instant, months_of, read_flights
from runtime.clock import SystemClock

EVENTS_A_REQUEST = 1000
MAX_EVENT_AGE_S = 400 * 86_400
SEED = 20130101
SETTLED_WITHIN_S = 240
CLOSED_WITHIN_S = 240
POLL_S = 0.25
SETTINGS = {
    "METERSTREAM_CLOSING_SCHEDULE_PAUSED": "true",
    "METERSTREAM_CLOSING_SCHEDULE_INTERVAL_S": "2",
    "METERSTREAM_CLOSING_CUT_MIN_INTERVAL_S": "0",
    # A killed worker is missed after this; the default (12 s) would only make the demo longer.
    "METERSTREAM_WORKER_SESSION_TIMEOUT_S": "6",
    "METERSTREAM_WORKER_HEARTBEAT_INTERVAL_S": "1",
}

console = Console(highlight=False)
say = console.print


async def eventually(what: str, done: Callable[[], Awaitable[bool]], within_s: float) -> float:
    """Seconds until `done` was true."""
    begun = time.monotonic()
    while not await done():
        if time.monotonic() - begun > within_s:
            raise RuntimeError(f"{what}: not within {within_s:g} s")
        await asyncio.sleep(POLL_S)
    return time.monotonic() - begun


async def load_catalog(client: Client, airlines: list[str], start_at: datetime) -> None:
    await client.send("PATCH", "/v1/settings", {"max_event_age_s": MAX_EVENT_AGE_S})
    for meter in METERS:
        await client.send("POST", "/v1/meters", {**meter, "event_types": [EVENT_TYPE], "dimensions": ["origin"]})
    for feature in FEATURES:
        await client.send("POST", "/v1/features", feature)
    for plan in PLANS:
        await client.send("POST", "/v1/plans", plan)
    for airline, plan_key in plan_of(airlines).items():
        await client.send("POST", "/v1/customers", {"external_id": airline})
        held = {"customer": airline, "plan": plan_key, "start_at": start_at.isoformat()}
        await client.send("POST", "/v1/subscriptions", held)


class Run:
    """One demo: the running system, the data, and what was found."""

    def __init__(self, system: LocalSystem, client: Client, flights: pd.DataFrame, start_at: datetime) -> None:
        self.system = system
        self.client = client
        self.flights = flights
        self.months = months_of(start_at)
        self.airlines = sorted(flights["carrier"].unique())
        self.flown = {str(airline): int(count) for airline, count in flights["carrier"].value_counts().items()}
        self.differences = verify.Differences()
        self.duplicates = 0
        self.unreconciled = 0

    async def counts(self) -> dict[str, int]:
        """What became of the events: what the tables hold, by the ledger's positions, hour by hour."""
        answer = await self.client.get("/v1/reconciliation")
        self.unreconciled = int(answer["difference"])
        return {name: sum(int(hour[name]) for hour in answer["items"]) for name in ("stored", "duplicate", "rejected")}

    async def settled(self, stored: int, duplicate: int) -> float:
        async def done() -> bool:
            counts = await self.counts()
            return counts["stored"] + counts["duplicate"] + counts["rejected"] >= stored + duplicate

        return await eventually(f"{stored + duplicate} events visible", done, SETTLED_WITHIN_S)

    async def send_first(self) -> None:
        say("\n[bold]1. A year of flights[/], from several clients, with the ingest worker killed on the way")
        requests = bodies(self.flights, EVENTS_A_REQUEST)
        begun = time.monotonic()
        sending = asyncio.create_task(self.client.send_all(requests))
        await self._kill_worker(after=FLIGHTS // 4)
        during = await self._allowed()
        accepted = await sending
        answered = time.monotonic() - begun
        waited = await self.settled(accepted, 0)
        say(f"  {accepted:,} events accepted in {answered:.1f} s ({accepted / answered:,.0f}/s)")
        say(f"  all visible in usage {waited:.1f} s later: {accepted / (answered + waited):,.0f} events/s end to end")
        say(f"  while they came in, {during} of {len(self.airlines)} airlines could still depart")
        self.differences.compare("events accepted", accepted, FLIGHTS)

    async def _kill_worker(self, after: int) -> None:
        async def far_enough() -> bool:
            return (await self.counts())["stored"] >= after

        await eventually("a quarter of the flights stored", far_enough, SETTLED_WITHIN_S)
        if self.system.apps is None:
            raise RuntimeError("the system does not run")
        pid = self.system.apps.pid("worker-ingest")
        os.kill(pid, signal.SIGKILL)
        say(f"  killed the ingest worker (process {pid}) with SIGKILL")

    async def _allowed(self) -> int:
        asked = [{"customer": airline, "feature": "departures", "quantity": "1"} for airline in self.airlines]
        answers = await self.client.send("POST", "/v1/check", asked)
        return sum(1 for answer in answers if answer.get("allowed"))

    async def send_again(self) -> None:
        say("\n[bold]2. The same flights again[/], shuffled")
        requests = bodies(self.flights.sample(frac=1, random_state=SEED), EVENTS_A_REQUEST)
        begun = time.monotonic()
        accepted = await self.client.send_all(requests)
        answered = time.monotonic() - begun
        waited = await self.settled(FLIGHTS, accepted)
        counts = await self.counts()
        self.duplicates = counts["duplicate"]
        say(f"  {accepted:,} accepted in {answered:.1f} s, {waited:.1f} s until all were decided")
        say(f"  stored {counts['stored']:,}, duplicates {counts['duplicate']:,}, rejected {counts['rejected']:,}")
        self.differences.compare("stored", counts["stored"], FLIGHTS)
        self.differences.compare("duplicates", counts["duplicate"], FLIGHTS)
        self.differences.compare("rejected", counts["rejected"], 0)
        self.differences.compare("accepted - stored - duplicate - rejected", self.unreconciled, 0)

    async def check_usage(self) -> None:
        say("\n[bold]3. Usage[/]: every meter of every airline and month, in all and by origin, beside pandas")
        begun = time.monotonic()
        before = self.differences.compared
        await verify.usage(self.client, self.flights, self.months, self.differences)
        say(f"  {self.differences.compared - before:,} numbers compared in {time.monotonic() - begun:.1f} s")

    async def check_entitlements(self) -> None:
        say("\n[bold]4. Entitlements[/]: who may depart once more")

        async def caught_up() -> bool:
            trial = verify.Differences(quiet=True)
            await verify.checks(self.client, self.flown, trial)
            return not trial.found

        try:
            await eventually("checks", caught_up, 30)
        except RuntimeError:
            say("  [red]checks have not caught up[/]")
        allowed = await verify.checks(self.client, self.flown, self.differences)
        denied = sorted(airline for airline, may in allowed.items() if not may)
        say(f"  flipped from allowed to denied: {', '.join(denied)}")

    async def close(self, address: SystemAddress) -> int:
        say("\n[bold]5. Closing twelve months[/]: the schedule is unpaused now")
        begun = time.monotonic()
        await unpause(address.endpoints.temporal_address)
        wanted = len(self.airlines) * len(self.months)

        async def all_closed() -> bool:
            return len(await self.client.all("/v1/invoices")) >= wanted

        await eventually(f"{wanted} invoices", all_closed, CLOSED_WITHIN_S)
        took = time.monotonic() - begun
        invoices = await verify.invoices(self.client, self.flights, self.months, self.differences)
        say(f"  {invoices} invoices in {took:.1f} s, each line beside a rating by hand")
        return invoices

    async def travel(self) -> None:
        say("\n[bold]6. Time travel[/]: old flights twice more, and late ones that were never reported")
        begun = time.monotonic()
        replayed, late = await travel.send_more(self.client, self.flights, SEED)
        await self.settled(FLIGHTS + late, self.duplicates + replayed)
        start, end = self.months[0][0], self.months[-1][1]
        before = len(self.differences.found)
        invoices = await travel.recomputed(self.client, start, end, FLIGHTS, self.differences)
        found = len(self.differences.found) - before
        verdict = "equal" if not found else f"{found} DIFFERENT"
        say(f"  {replayed:,} sent again, {late:,} late ones counted, in {time.monotonic() - begun:.1f} s")
        done = f"{invoices} invoices recomputed after two more replays and late events: {verdict}"
        say(f"  time travel: {done}", soft_wrap=True)


async def run(keep: bool, data: Path) -> int:  # noqa: FBT001 - the command's own flag
    begun = time.monotonic()
    start_at = first_instant(SystemClock().now().date())
    flights = read_flights(start_at)
    system = LocalSystem(data, say=lambda text: say(f"  [dim]{text}[/]"), settings=SETTINGS)
    say(f"[bold]Meterstream[/]: {len(flights):,} flights, {start_at:%Y-%m-%d} and the year from there")
    address = await system.start()
    try:
        async with connected(address.url, address.api_key) as client:
            demo = Run(system, client, flights, start_at)
            await load_catalog(client, demo.airlines, start_at)
            await eventually("contracts reach the checks", lambda: all_allowed(demo), 30)
            say(f"  catalog loaded; before the load all {len(demo.airlines)} airlines may depart")
            await demo.send_first()
            await demo.send_again()
            await demo.check_usage()
            await demo.check_entitlements()
            invoices = await demo.close(address)
            await demo.travel()
        say(f"\nDashboard  {address.url}/dashboard   key {address.api_key}")
        found = demo.differences.found
        say(
            f"{demo.differences.compared:,} comparisons, {len(found)} differences, {time.monotonic() - begun:.0f} s in all"
        )
        verdict = "FAIL" if found else "PASS"
        print(
            f"demo: {verdict} events={len(flights)} duplicates={demo.duplicates} invoices={invoices} differences={len(found)}",
            flush=True,
        )
        if keep:
            say("KEEP=1: it runs until Ctrl-C")
            await stop_asked()
    finally:
        await system.stop()
    return 1 if found else 0


async def all_allowed(demo: Run) -> bool:
    answers = await demo.client.send(
        "POST", "/v1/check", [{"customer": airline, "feature": "departures"} for airline in demo.airlines]
    )
    return all(answer.get("allowed") for answer in answers)


async def stop_asked() -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the system running")
    parser.add_argument("--data", type=Path, help="directory for all data; a temporary one otherwise")
    given = parser.parse_args()
    if given.data is not None:
        return asyncio.run(run(given.keep, given.data))
    with tempfile.TemporaryDirectory(prefix="meterstream-demo-") as data:
        return asyncio.run(run(given.keep, Path(data)))


if __name__ == "__main__":
    sys.exit(main())
