"""`make chaos SEED=n [MINUTES=3]`: the whole system under load and faults, and every number it gives beside the truth.

The plan of faults follows from the seed and the length. Exit code 1 when anything differs; data and logs are kept then.
"""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.plan import faults_of
from tests.chaos.report import Result, lines_of
from tests.chaos.run import run_chaos


async def chaos(seed: int, seconds: float, data: Path) -> Result:
    """Ends in order, whatever ends it: SIGTERM is as Ctrl-C."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    began = time.monotonic()
    plan = faults_of(seed, seconds)
    print(f"chaos: seed {seed}, {seconds:.0f} s of load, {len(plan)} faults")
    for fault in plan:
        print(f"  {fault}")
    say = lambda text: print(f"[{time.monotonic() - began:6.1f}] {text}", flush=True)  # noqa: E731
    return await run_chaos(data, plan, seed=seed, seconds=seconds, say=say)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=3.0, help="of load, without start and comparison")
    given = parser.parse_args()
    data = Path(tempfile.mkdtemp(prefix="meterstream-chaos-"))
    try:
        result = asyncio.run(chaos(given.seed, given.minutes * 60, data))
    except (KeyboardInterrupt, asyncio.CancelledError):
        shutil.rmtree(data, ignore_errors=True)
        print(f"chaos: STOPPED seed={given.seed}")
        return 1
    except BaseException:
        print(f"chaos: FAIL seed={given.seed}: data and logs are kept in {data}", flush=True)
        raise
    print("\n".join(lines_of(result)), flush=True)
    if result.passed:
        shutil.rmtree(data, ignore_errors=True)
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
