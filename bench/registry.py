"""All scenarios, in the order in which they run. To add one: a module in `scenarios/` and a line here.

`shared(module)`: `NAME` and `run(rig)`, on the system that all such scenarios share; it leaves every event that it made
counted, and every process that it stopped running. `alone(module)`: `NAME` and `run(bench)`; it starts what it needs by
itself (`rig.running`, or servers of its own) once the shared system is gone, and stops it again. `by_default=False`: runs
only when it is named. In the quick form a scenario takes a few seconds.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from bench.figures import Measured
from bench.rig import Bench, Rig
from bench.scenarios import (
    check,
    closing,
    cold_start,
    end_to_end,
    freshness,
    generator,
    ingest,
    memory,
    pipeline,
    rating,
    scale,
    usage,
    usage_many,
)


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """Exactly one of `run` and `run_alone` is there."""

    name: str
    run: Callable[[Rig], Awaitable[list[Measured]]] | None = None
    run_alone: Callable[[Bench], Awaitable[list[Measured]]] | None = None
    by_default: bool = True


class Shared(Protocol):
    NAME: str

    async def run(self, rig: Rig) -> list[Measured]: ...


class Alone(Protocol):
    NAME: str

    async def run(self, bench: Bench) -> list[Measured]: ...


def shared(module: Shared, *, by_default: bool = True) -> Scenario:
    return Scenario(name=module.NAME, run=module.run, by_default=by_default)


def alone(module: Alone, *, by_default: bool = True) -> Scenario:
    return Scenario(name=module.NAME, run_alone=module.run, by_default=by_default)


SCENARIOS: dict[str, Scenario] = {
    one.name: one
    for one in (
        shared(generator),
        shared(ingest),
        shared(pipeline),
        shared(end_to_end),
        shared(freshness),
        shared(check),
        shared(closing),
        shared(usage),
        alone(rating),
        alone(cold_start),
        alone(scale, by_default=False),
        alone(memory, by_default=False),
        alone(usage_many, by_default=False),
    )
}


def chosen(names: list[str]) -> list[Scenario]:
    """Those that are named, or all that run by default; first those that share a system."""
    picked = [one for one in SCENARIOS.values() if (one.name in names if names else one.by_default)]
    return sorted(picked, key=lambda one: one.run is None)
