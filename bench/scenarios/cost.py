"""What an event costs with so many stored before it: CPU seconds of every process from HTTP to merged parts, and bytes.

Part of the scenario `usage`, which stores the events: figures of a scenario of their own.
"""

from collections.abc import Awaitable, Callable

import msgspec

from bench.figures import Measured
from bench.load import connected, drive
from bench.rig import Rig
from stores.clickhouse.client import ClickhouseClient

NAME = "cost"
SIZE, CLIENTS = 1000, 8
PROCESSES = ("api", "worker-ingest", "worker-balances", "kafka", "postgres", "clickhouse")
# Those whose work could grow with what is stored already.
STORING = ("worker-ingest", "clickhouse")
_MILLION = 1_000_000
_ON_DISK = (
    "SELECT table, sum(bytes_on_disk) FROM system.parts WHERE active AND table IN {tables:Array(String)} GROUP BY 1"
)


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """Of one repeat: CPU seconds per million events, and what the log grew by for each."""

    cpu_s: dict[str, float]
    log_bytes: float


async def at(rig: Rig, client: ClickhouseClient, stored: int, quiet: Callable[[], Awaitable[None]]) -> list[Measured]:
    """`quiet` returns once nothing works in the background: what was set off is part of the cost."""
    repeats = [await once(rig, quiet) for _ in range(rig.scale.repeats)]
    rows = {
        "worker and ClickHouse": tuple(sum(one.cpu_s[name] for name in STORING) for one in repeats),
        "all processes": tuple(sum(one.cpu_s.values()) for one in repeats),
    }
    rows |= {name: tuple(one.cpu_s[name] for one in repeats) for name in PROCESSES}
    figures = [measured(stored, name, "CPU s/million", values) for name, values in rows.items()]
    held = {"bytes of the log": tuple(one.log_bytes for one in repeats)}
    held |= {f"bytes of {name}": (value,) for name, value in (await bytes_of(client)).items()}
    return [*figures, *(measured(stored, name, "B/event", values) for name, values in held.items())]


def measured(stored: int, name: str, unit: str, values: tuple[float, ...]) -> Measured:
    return Measured(scenario=NAME, figure=f"{stored:,} stored events, {name}", unit=unit, values=values)


async def once(rig: Rig, quiet: Callable[[], Awaitable[None]]) -> Spent:
    events = max(CLIENTS, rig.scale.events // SIZE) * SIZE
    encoded = [rig.encode(body) for body in rig.events.bodies(events // SIZE, SIZE)]
    await quiet()
    log_bytes, before = log_bytes_of(rig), rig.processes.usage()
    async with connected(rig.target, CLIENTS) as connections:
        await drive(connections, encoded, expected=202)
    await rig.settled()
    await quiet()
    after = rig.processes.usage()
    return Spent(
        cpu_s={name: (after[name].cpu_s - before[name].cpu_s) / events * _MILLION for name in PROCESSES},
        log_bytes=(log_bytes_of(rig) - log_bytes) / events,
    )


def log_bytes_of(rig: Rig) -> int:
    """Of all topics: the events themselves, and what becomes of them."""
    return sum(segment.stat().st_size for segment in (rig.system.data / "kafka").rglob("*.log"))


async def bytes_of(client: ClickhouseClient) -> dict[str, float]:
    """Of `events` and of `usage_windows`, compressed, per stored event."""
    [[events]] = await client.rows("SELECT count() FROM events")
    found = await client.rows(_ON_DISK, {"tables": ["events", "usage_windows"]})
    return {name.removeprefix("usage_"): size / events for name, size in found}
