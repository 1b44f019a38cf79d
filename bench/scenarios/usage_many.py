"""The figures of `usage` and `cost` with a hundred million stored events: only by name, since storing them takes minutes."""

from bench.figures import Measured
from bench.rig import Bench, running
from bench.scenarios import usage

NAME = "usage-100m"
LEVELS = (10, 1000)  # stored events for one of the scale


async def run(bench: Bench) -> list[Measured]:
    async with running(bench, name=NAME) as rig:
        return await usage.at_levels(rig, [bench.scale.events * level for level in LEVELS])
