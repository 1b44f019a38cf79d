"""The benchmarks: `make bench`, or `python -m bench [SCENARIO ...]`. They start a system of their own and stop it again.

Every figure is the median of the repeats, and stands beside its spread and, where there is one, its ceiling: what the
parts allow by themselves, measured in the same run.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import uvloop
from rich.console import Console

from bench import pages, report
from bench.figures import Measured, Result
from bench.load import BenchError
from bench.merges import rested
from bench.published import published_results
from bench.registry import SCENARIOS, Scenario, chosen
from bench.rig import FULL, QUICK, Bench, Rig, Scale, running
from cli.system import LocalSystem
from runtime.local.errors import PartFailedError, StackError

RESULTS = Path(__file__).resolve().parent / "results"
FULL_RESULTS, QUICK_RESULTS = RESULTS / "latest.json", RESULTS / "quick.json"
WITHIN_S = 3600.0

WIDTH = 150  # of the tables where there is no terminal to ask

console = Console(highlight=False)
if not console.is_terminal:
    console = Console(highlight=False, width=WIDTH)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    measured: list[Measured]
    failures: list[str]


async def measure(scenarios: Sequence[Scenario], bench: Bench) -> Run:
    """All scenarios, one after the other; one that cannot be measured does not stop the others."""
    run = Run(measured=[], failures=[])
    if (task := asyncio.current_task()) is not None:
        for number in (signal.SIGINT, signal.SIGTERM):  # what was started is stopped
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    async with asyncio.timeout(WITHIN_S):
        together = [one for one in scenarios if one.run is not None]
        if together:
            async with running(bench) as rig:
                for one in together:
                    if one.run is not None and not await _note(
                        run, one.name, _unless_failed(_after_rest(one.run, rig), rig.system), bench
                    ):
                        await rig.begin_anew()
                run.measured.extend(rig.processes.peaks())
        for one in scenarios:
            if one.run_alone is not None:
                await _note(run, one.name, one.run_alone(bench), bench)
    return run


async def _after_rest(scenario: Callable[[Rig], Awaitable[list[Measured]]], rig: Rig) -> list[Measured]:
    await rested(rig.environment)
    return await scenario(rig)


async def _note(run: Run, name: str, measuring: Awaitable[list[Measured]], bench: Bench) -> bool:
    """Whether it could be measured."""
    begun, failures = time.monotonic(), len(run.failures)
    with console.status(f"measuring {name}"):
        try:
            run.measured.extend(await measuring)
        except* BenchError as errors:
            run.failures.extend(f"{name}: {error}" for error in errors.exceptions)
    bench.say(f"{name}: {time.monotonic() - begun:.0f} s")
    return len(run.failures) == failures


async def _unless_failed(scenario: Awaitable[list[Measured]], system: LocalSystem) -> list[Measured]:
    """Ends with the system's own reason when it cannot go on."""
    measuring = asyncio.ensure_future(scenario)
    failed = asyncio.ensure_future(system.failed())
    try:
        await asyncio.wait([measuring, failed], return_when=asyncio.FIRST_COMPLETED)
        if failed.done() and not measuring.done():
            raise failed.result()
        return await measuring
    finally:
        measuring.cancel()
        failed.cancel()


def _say(text: str) -> None:
    console.print(f"  [dim]{text}[/]")


def show(run: Run, old: Sequence[Result] | None, old_name: str) -> None:
    console.print()
    console.print(report.table_of(run.measured))
    console.print("Ratio: the share of the ceiling that is reached; 1 is as fast as the part by itself.")
    if old is not None:
        console.print()
        console.print(report.comparison_table(report.compared(run.measured, old), old_name))
    for failure in run.failures:
        console.print(f"[red]not measured[/]  {failure}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"one or more of {', '.join(SCENARIOS)}")
    parser.add_argument("--quick", action="store_true", help="once and small: shows that everything works, no more")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="set the figures beside those of an older run")
    parser.add_argument("--output", type=Path, help="where the results go as JSON (bench/results/latest.json)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="a fresh directory, kept with all logs")
    given = parser.parse_args()
    unknown = sorted(set(given.scenarios) - set(SCENARIOS))
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    return given


def run_in(data: Path | None, scenarios: Sequence[Scenario], scale: Scale) -> Run | None:
    """None when nothing could be measured: why is printed."""
    with contextlib.ExitStack() as opened:
        if data is None:
            data = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="meterstream-bench-")))
            data.chmod(0o755)  # PostgreSQL runs as another user where we are root
        try:
            return uvloop.run(measure(scenarios, Bench(data=data, scale=scale, say=_say)))
        except (PartFailedError, StackError, BenchError) as error:
            console.print(str(error), style="red", markup=False)
        except TimeoutError:
            console.print(f"not done within {WITHIN_S:g} s", style="red")
        except asyncio.CancelledError:
            console.print("stopped")
    return None


def main() -> int:
    given = parse_arguments()
    # Read first: it may be the file that this run writes.
    try:
        old = report.read_results(given.compare) if given.compare else None
    except (OSError, msgspec.DecodeError) as error:
        console.print(f"cannot compare: {error}")
        return 2
    run = run_in(given.data, chosen(given.scenarios), QUICK if given.quick else FULL)
    if run is None:
        return 1
    show(run, old, str(given.compare))
    output = given.output or (QUICK_RESULTS if given.quick else FULL_RESULTS)
    report.write_results(run.measured, output)
    console.print(f"written to {output}")
    if output == FULL_RESULTS and not given.scenarios:
        pages.write(published_results(), pages.DOCS, _say)
        console.print(f"and what is shown of it to {pages.DOCS}")
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main())
