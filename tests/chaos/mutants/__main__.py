"""`make chaos-mutants`: each rule switched off is found, and the same faults do nothing to the code as it is.

python -m tests.chaos.mutants [NAME ...]

With MUTANTS_LOGS=DIRECTORY what the workers said is kept there.
"""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.chaos.mutants.ground import fresh_ground
from tests.chaos.mutants.plans import PLANS
from tests.chaos.mutants.switched_off import MUTANTS
from tests.chaos.mutants.truth import differences
from tests.support.servers import running
from tests.support.waiting import eventually_async

SETTLED_WITHIN_S = 40.0
# A mutant is stuck when it takes so much longer than the code as it is.
STUCK_AFTER_S = 12.0
STUCK_FACTOR = 2
AGREES_WITHIN_S = 6.0
_ROW = "{:<22} {:<10} {:<8} {:>7}  {}"


class Outcome(NamedTuple):
    """`failed`: in words; "" when everything was as it must be. `settled_s`: from the end of the plan to rest."""

    failed: str
    seconds: float
    settled_s: float


async def play(endpoints: dict[str, str], directory: Path, name: str, mutant: str | None, within_s: float) -> Outcome:
    """A plan once, and what came of it. `within_s`: to rest, once it is played."""
    plan, began = PLANS[name], time.monotonic()
    failed, played = "", began
    run = name if mutant is None else f"{name}-mutated"
    async with fresh_ground(endpoints, directory / run, mutant, plan.settings, plan.faults) as ground:
        try:
            await plan.play(ground)
            played = time.monotonic()
            await ground.settled(within_s)
        except AssertionError:
            failed = f"stuck ({ground.last_words() or 'no progress'})"
        settled_s = time.monotonic() - played

        async def agrees() -> bool:
            found = await differences(ground, balances=plan.balances)
            assert not found, found
            return True

        try:
            await eventually_async(agrees, AGREES_WITHIN_S, every_s=0.3)
        except AssertionError:
            failed = "; ".join([*(await differences(ground, balances=plan.balances)), *([failed] if failed else [])])
    return Outcome(failed, time.monotonic() - began, settled_s)


async def found(endpoints: dict[str, str], directory: Path, name: str) -> bool:
    """Whether the mutant fails where the code does not; prints the row."""
    sound = await play(endpoints, directory, name, None, SETTLED_WITHIN_S)
    within_s = STUCK_AFTER_S + STUCK_FACTOR * sound.settled_s
    broken = await play(endpoints, directory, name, name, within_s)
    how = broken.failed if not sound.failed else f"THE CODE ITSELF: {sound.failed}"
    columns = ("FAILS" if sound.failed else "passes", "fails" if broken.failed else "SURVIVES")
    print(_ROW.format(name, *columns, f"{sound.seconds + broken.seconds:.0f}", how[:160]), flush=True)
    return not sound.failed and bool(broken.failed)


async def main(names: list[str]) -> bool:
    chosen = names or list(MUTANTS)
    print(_ROW.format("mutant", "unmutated", "mutated", "seconds", "how it failed"), flush=True)
    with tempfile.TemporaryDirectory(prefix="meterstream-mutants-") as directory:
        logs = Path(os.environ.get("MUTANTS_LOGS", directory))
        with running("kafka", "postgres", "clickhouse") as endpoints:
            number = sum([await found(endpoints, logs, name) for name in chosen])
    verdict = "PASS" if number == len(chosen) else "FAIL"
    print(f"chaos-mutants: {verdict} found={number} of {len(chosen)}")
    return number == len(chosen)


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(main(sys.argv[1:])) else 1)
