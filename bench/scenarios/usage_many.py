"""The figures of `usage` and `cost` up to a hundred million stored events: only by name, since storing them takes minutes."""

from bench.figures import Measured
from bench.rig import Bench, running
from bench.scenarios import usage

NAME = "usage-100m"


async def run(bench: Bench) -> list[Measured]:
    async with running(bench, name=NAME) as rig:
        return await usage.at_levels(rig, [bench.scale.events * level for level in (*usage.LEVELS, 1000)])
