"""The benchmark in its quick form: that every scenario still runs. How fast is never judged here."""

import subprocess
import sys
from pathlib import Path

from bench.registry import chosen
from bench.report import read_results
from tests.support.servers import ROOT

# Two minutes on two idle cores.
WITHIN_S = 600


def test_every_scenario_runs_and_its_figures_are_in_the_results(tmp_path: Path) -> None:
    output = tmp_path / "quick.json"
    command = [sys.executable, "-m", "bench", "--quick", "--output", str(output)]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S)
    assert done.returncode == 0, done.stdout + done.stderr

    results = read_results(output)
    assert {one.name for one in chosen([])} <= {one.scenario for one in results}
    assert all(one.value >= 0 for one in results)
    assert len({(one.scenario, one.figure, one.unit) for one in results}) == len(results)
