"""What each process of the system has used: CPU seconds, and the most memory it held."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import msgspec

from bench.figures import Measured
from cli.system import LocalSystem
from runtime.local.stack import PARTS

GENERATOR = "load generator"
SAMPLED_EVERY_S = 1.0
_MILLION = 1_000_000
_MB = 1 << 20
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# In /proc/PID/stat, counted from the state, which follows the name in brackets; the children's are of those that ended.
_CPU, _OWN_CPU = slice(11, 15), slice(11, 13)
# In /proc/PID/statm.
_RESIDENT, _SHARED = 1, 2


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Of one process and those that it started: seconds since it began, bytes now."""

    cpu_s: float = 0.0
    private: int = 0
    shared: int = 0

    @property
    def memory(self) -> int:
        return self.private + self.shared

    def plus(self, other: "Usage") -> "Usage":
        # What PostgreSQL's processes share counts once.
        return Usage(
            cpu_s=self.cpu_s + other.cpu_s,
            private=self.private + other.private,
            shared=max(self.shared, other.shared),
        )


class Processes:
    """Those of one running system, by name, with all that they started; and this one."""

    def __init__(self, system: LocalSystem, apps: Sequence[str]) -> None:
        self._system = system
        self._apps = apps
        self._peaks: dict[str, int] = {}

    def usage(self) -> dict[str, Usage]:
        found = {name: _used_by(pid) for name, pid in self._pids().items()}
        found[GENERATOR] = _used(os.getpid(), _OWN_CPU)  # without the system, which it has started
        for name, used in found.items():
            self._peaks[name] = max(self._peaks.get(name, 0), used.memory)
        return found

    def _pids(self) -> dict[str, int]:
        if self._system.apps is None:
            raise RuntimeError("the system was not started")
        pids = {name: self._system.stack.pid(name) for name in PARTS}
        return pids | {name: self._system.apps.pid(name) for name in self._apps}

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Inside, memory is looked at once a second."""

        async def watch() -> None:
            while True:
                self.usage()
                await asyncio.sleep(SAMPLED_EVERY_S)

        watching = asyncio.create_task(watch(), name="memory of the processes")
        try:
            yield
        finally:
            watching.cancel()

    def peaks(self) -> list[Measured]:
        """The most memory that each has held since it is watched."""
        return [
            Measured(scenario="processes", figure=f"{name}, peak memory", unit="MB", values=(peak / _MB,))
            for name, peak in self._peaks.items()
        ]


class Cost:
    """CPU seconds per million events of each process, over repeats. For processes that live as long as a repeat."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._repeats: list[Mapping[str, float]] = []

    def add(self, before: Mapping[str, Usage], events: int) -> None:
        """A repeat: what was used since `before` was used for so many events."""
        after = self._processes.usage()
        spent = {name: used.cpu_s - before.get(name, Usage()).cpu_s for name, used in after.items()}
        self._repeats.append({name: max(0.0, seconds) / events * _MILLION for name, seconds in spent.items()})

    @property
    def seconds_an_event(self) -> float:
        """Of all processes together; the median of the repeats."""
        return median(sum(repeat.values()) for repeat in self._repeats) / _MILLION

    def measured(self, scenario: str, label: str) -> list[Measured]:
        """Those of the processes that did something, and all of them together."""
        names = [
            name for name in self._repeats[0] if any(repeat.get(name, 0.0) >= _NOTHING for repeat in self._repeats)
        ]
        rows = {name: tuple(repeat.get(name, 0.0) for repeat in self._repeats) for name in names}
        rows["all processes"] = tuple(sum(repeat.values()) for repeat in self._repeats)
        return [
            Measured(scenario=scenario, figure=f"{label}, {name}", unit="CPU s/million", values=values)
            for name, values in rows.items()
        ]


_NOTHING = 0.1


def _used_by(pid: int) -> Usage:
    """By a process and all that it has started. Not by a look at every process there is: that would be felt in latencies."""
    used = _used(pid)
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            used = used.plus(_used_by(int(child)))
    return used


def _used(pid: int, cpu: slice = _CPU) -> Usage:
    """By a process itself, and those of its children that have ended; nothing when it has ended too."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return Usage()
    shared = int(pages[_SHARED])
    return Usage(
        cpu_s=sum(int(ticks) for ticks in fields[cpu]) / _TICKS,
        private=(int(pages[_RESIDENT]) - shared) * _PAGE,
        shared=shared * _PAGE,
    )
