"""A minute of load and faults, of the same kind as `make chaos` makes for longer: no number is wrong afterwards."""

import time
from pathlib import Path

from tests.chaos.plan import faults_of
from tests.chaos.report import lines_of
from tests.chaos.run import run_chaos

SEED = 3
SECONDS = 45.0


async def test_every_number_is_exact_after_a_minute_of_faults(tmp_path: Path) -> None:
    began = time.monotonic()
    plan = faults_of(SEED, SECONDS, short=True)
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)  # the servers' user must be able to enter it

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:6.1f}] {text}")

    result = await run_chaos(tmp_path, plan, seed=SEED, seconds=SECONDS, say=say)
    print("\n".join(lines_of(result)))
    assert list(result.differences) == []
    assert len(result.survived) == len(plan)
    assert result.duplicates
    assert result.invoices
