"""From `meterstream dev` to its first answer, on a fresh directory and on one that has data; and how long its parts take.

What it prints says when each phase begins, so what is timed is what somebody at a terminal waits for.
"""

import asyncio
import contextlib
import itertools
import signal
import time
from pathlib import Path

import msgspec

from bench.figures import Measured
from bench.load import BenchError, Caller, connected, target_of
from bench.rig import Bench
from cli.system import ROOT, command
from runtime.local.ports import free_ports

NAME = "cold-start"
STARTED_WITHIN_S = 120.0
STOPPED_WITHIN_S = 60.0
# The beginnings of the lines that begin a phase, in order.
SERVERS, MIGRATING, APPS, KEY = (
    "meterstream: starting Kafka",
    "meterstream: migrating",
    "meterstream: starting api",
    "API key",
)
_ASK_AGAIN_S = 0.02


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds since the command: each phase's begin, and the first answer."""

    migrating: float
    apps: float
    announced: float
    answered: float

    @property
    def of_apps(self) -> float:
        """API, workers and Temporal worker beside one another: from their start until all say that they are ready."""
        return self.announced - self.apps


async def run(bench: Bench) -> list[Measured]:
    directory = bench.data / NAME
    fresh, again = [], []
    for repeat in range(bench.scale.repeats):
        data = directory / str(repeat)
        await asyncio.to_thread(data.mkdir, parents=True)
        fresh.append(await started(data))
        again.append(await started(data))
    rows = [
        ("fresh directory, to the first answer", [one.answered for one in fresh]),
        ("directory with data, to the first answer", [one.answered for one in again]),
        ("directory with data, servers", [one.migrating for one in again]),
        ("directory with data, API and all workers ready", [one.of_apps for one in again]),
    ]
    return [Measured(scenario=NAME, figure=figure, unit="s", values=tuple(values)) for figure, values in rows]


async def started(data: Path) -> Start:
    """Starts everything, asks once, and stops it."""
    [port] = free_ports(1)
    begun = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *command("dev", "--data", str(data), "--port", str(port)),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    if process.stdout is None:
        raise RuntimeError("a pipe was asked for")
    try:
        async with asyncio.timeout(STARTED_WITHIN_S):
            seen = await announced(process.stdout, begun)
            await asked(seen.url, seen.key)
        return Start(
            migrating=seen.at[MIGRATING],
            apps=seen.at[APPS],
            announced=seen.at[KEY],
            answered=time.perf_counter() - begun,
        )
    except TimeoutError as error:
        raise BenchError(f"no answer within {STARTED_WITHIN_S:g} s of the start") from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        draining = asyncio.create_task(process.stdout.read())
        async with asyncio.timeout(STOPPED_WITHIN_S):
            await process.wait()
        await draining


class Announced(msgspec.Struct, frozen=True, kw_only=True):
    at: dict[str, float]
    url: str
    key: str


async def announced(output: asyncio.StreamReader, begun: float) -> Announced:
    at: dict[str, float] = {}
    url = ""
    while line := (await output.readline()).decode():
        found = next((one for one in (SERVERS, MIGRATING, APPS, KEY) if line.startswith(one)), None)
        if line.startswith("API "):
            url = line.split()[-1] if found is None else url
        if found is not None:
            at[found] = time.perf_counter() - begun
        if found == KEY:
            return Announced(at=at, url=url, key=line.split()[2])
    raise BenchError("the system ended before it was ready")


async def asked(url: str, key: str) -> None:
    """Until a question that needs the catalog is answered."""
    target = target_of(url, key)
    async with connected(target, 1) as [connection]:
        caller = Caller(target, connection)
        for _ in itertools.count():
            try:
                await caller.call("GET", "/v1/meters")
            except BenchError:
                await asyncio.sleep(_ASK_AGAIN_S)
            else:
                return
