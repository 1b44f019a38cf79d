"""What an event costs with so many stored before it: CPU seconds of every process from HTTP to merged parts, and bytes.

Part of the scenario `usage`, which stores the events: figures of a scenario of their own.
"""

from collections.abc import Awaitable, Callable

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


async def at(rig: Rig, client: ClickhouseClient, stored: int, quiet: Callable[[], Awaitable[None]]) -> list[Measured]:
    """`quiet` returns once nothing works in the background: what was set off is part of the cost.

    One stretch instead of repeats: ClickHouse merges after every so many blocks, and part of a merge says nothing.
    """
    events = max(CLIENTS, rig.scale.events * rig.scale.repeats // SIZE) * SIZE
    encoded = [rig.encode(body) for body in rig.events.bodies(events // SIZE, SIZE)]
    await quiet()
    log_bytes, before = log_bytes_of(rig), rig.processes.usage()
    async with connected(rig.target, CLIENTS) as connections:
        await drive(connections, encoded, expected=202)
    await rig.settled()
    await quiet()
    after = rig.processes.usage()
    spent = {name: (after[name].cpu_s - before[name].cpu_s) / events * _MILLION for name in PROCESSES}
    together = {
        "worker and ClickHouse": sum(spent[name] for name in STORING),
        "all processes": sum(spent.values()),
    }
    held = {"bytes of the log": (log_bytes_of(rig) - log_bytes) / events}
    held |= {f"bytes of {name}": size for name, size in (await bytes_of(client)).items()}
    return [
        Measured(scenario=NAME, figure=f"{stored:,} stored events, {name}", unit=unit, values=(value,))
        for unit, rows in (("CPU s/million", together | spent), ("B/event", held))
        for name, value in rows.items()
    ]


def log_bytes_of(rig: Rig) -> int:
    """Of all topics: the events themselves, and what becomes of them."""
    return sum(segment.stat().st_size for segment in (rig.system.data / "kafka").rglob("*.log"))


async def bytes_of(client: ClickhouseClient) -> dict[str, float]:
    """Of `events` and of `usage_windows`, compressed, per stored event."""
    [[events]] = await client.rows("SELECT count() FROM events")
    found = await client.rows(_ON_DISK, {"tables": ["events", "usage_windows"]})
    return {name.removeprefix("usage_"): size / events for name, size in found}
