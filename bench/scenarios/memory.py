"""What the processes hold when there is much to hold: the ingest worker its duplicate filter, the API all entitlements.

The filter is filled by its own code while the worker is away, the entitlements by records as the balances worker sends
them; then real events and real checks go through.
"""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import psycopg
from confluent_kafka import Producer

from bench.figures import Measured
from bench.held import state_record
from bench.load import BenchError, connected, drive
from bench.rig import PARTITIONS, Bench, Rig, running
from cli.system import LocalSystem
from runtime.clock import SystemClock
from runtime.settings import KafkaSettings
from schemas.topics import ENTITLEMENTS_STATE, USAGE_RAW
from stores.rocks.filter import DuplicateFilter
from stores.rocks.memory import FilterMemory

NAME = "memory"
WORKER, API = "worker-ingest", "api"
DAYS = 37
IDENTITIES_AN_EVENT = 100  # of the scale
FEATURES = [f"feature-{number}" for number in range(10)]
SIZE, CLIENTS = 1000, 8
KNOWN_WITHIN_S = 120.0
_IDENTITY_BYTES = 16
_POSITION_BYTES = 12
_SECONDS_A_DAY = 86_400
_KIB_A_MB = 1 << 10
_FLUSH_S = 60.0
_POLL_S = 0.1


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Megabytes resident: now, and at most since the process began."""

    now: float
    peak: float


async def run(bench: Bench) -> list[Measured]:
    identities, customers = bench.scale.events * IDENTITIES_AN_EVENT, bench.scale.events
    async with running(bench, name=NAME) as rig:
        at_first = {name: resident(rig.system, name) for name in (WORKER, API)}
        await asyncio.to_thread(tell_customers, rig, customers)
        await known(rig, customers)
        told = resident(rig.system, API)
        await with_filter(rig, identities)
        worker = resident(rig.system, WORKER)
    label = f"API, {customers:,} customers with {len(FEATURES)} features each"
    rows = [
        ("API, at first", at_first[API].now),
        (label, told.now),
        (f"{label}, peak", told.peak),
        ("ingest worker, at first", at_first[WORKER].now),
        (f"ingest worker, {identities:,} identities", worker.now),
        (f"ingest worker, {identities:,} identities, peak", worker.peak),
    ]
    return [Measured(scenario=NAME, figure=figure, unit="MB", values=(value,)) for figure, value in rows]


def resident(system: LocalSystem, name: str) -> Held:
    if system.apps is None:
        raise RuntimeError("the system was not started")
    status = Path(f"/proc/{system.apps.pid(name)}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    now, peak = (int(fields[key].split()[0]) / _KIB_A_MB for key in ("VmRSS", "VmHWM"))
    return Held(now=now, peak=peak)


# --- the filter -----------------------------------------------------------------------------------------------------


async def with_filter(rig: Rig, identities: int) -> None:
    """The worker on a filter of so many identities more, and events that are looked for in it."""
    if rig.system.apps is None:
        raise RuntimeError("the system was not started")
    await rig.system.apps.leave(WORKER)
    await asyncio.to_thread(fill_filters, rig, identities)
    rig.system.apps.join(WORKER)
    requests = max(CLIENTS, 2 * rig.scale.events // SIZE)
    encoded = [rig.target.request("POST", "/v1/events", body) for body in rig.events.bodies(requests, SIZE)]
    async with connected(rig.target, CLIENTS) as connections:
        await drive(connections, encoded, expected=202)
    await rig.settled()


def fill_filters(rig: Rig, identities: int) -> None:
    """The same number in every partition and on every log day of the window."""
    with psycopg.connect(rig.address.endpoints.postgres_url) as conn:
        found = conn.execute("SELECT topic_id FROM log_topics WHERE name = %s", [USAGE_RAW]).fetchone()
    if found is None:
        raise BenchError(f"{USAGE_RAW} is not in the ledger")
    memory = FilterMemory()
    today = int(SystemClock().now().timestamp()) // _SECONDS_A_DAY
    for partition in range(PARTITIONS):
        held = DuplicateFilter(rig.system.data / WORKER / "filter" / str(partition), memory, found[0])
        if held.discarded is not None:
            raise BenchError(f"the worker's filter cannot be used: {held.discarded}")
        for day in range(today - DAYS + 1, today + 1):
            held.load(day, random_rows(identities // PARTITIONS // DAYS))
        held.close()


def random_rows(count: int) -> bytes:
    """Rows of `DuplicateFilter.load`, sorted."""
    drawn = os.urandom(count * _IDENTITY_BYTES)
    position = bytes(_POSITION_BYTES)
    return b"".join(
        identity + position
        for identity in sorted(drawn[at : at + _IDENTITY_BYTES] for at in range(0, len(drawn), _IDENTITY_BYTES))
    )


# --- the entitlements -----------------------------------------------------------------------------------------------


def tell_customers(rig: Rig, count: int) -> None:
    producer = Producer(
        {
            "bootstrap.servers": rig.address.endpoints.kafka_bootstrap,
            "acks": "all",
            "queue.buffering.max.messages": count + 1,
            "queue.buffering.max.kbytes": 1 << 20,
        }
    )
    partitions = KafkaSettings().balance_partitions
    for place, (key, value) in enumerate(records(count)):
        producer.produce(ENTITLEMENTS_STATE, key=key, value=value, partition=place % partitions)
        producer.poll(0)
    if left := producer.flush(_FLUSH_S):
        raise BenchError(f"{left:,} records were not acknowledged")


def records(count: int) -> Iterator[tuple[bytes, bytes]]:
    now = SystemClock().now()
    return (state_record(name, FEATURES, now) for name in map(customer_name, range(count)))


def customer_name(number: int) -> str:
    return f"held-{number}"


async def known(rig: Rig, count: int) -> None:
    """Waits until checks know the last customers of every partition, and all features of some others."""
    last = [customer_name(number) for number in range(max(0, count - 100), count)]
    asked = [{"customer": name, "feature": feature} for name in last for feature in FEATURES[:2]]
    deadline = time.perf_counter() + KNOWN_WITHIN_S
    while unknown := refused(await rig.caller.call("POST", "/v1/check", asked)):
        if time.perf_counter() > deadline:
            raise BenchError(f"{unknown} of {len(asked)} checks are not answered after {KNOWN_WITHIN_S:g} s")
        await asyncio.sleep(_POLL_S)


def refused(answers: Sequence[dict[str, object]]) -> int:
    return sum("error" in answer for answer in answers)
