"""Real servers for tests: each part of the embedded stack as a process of its own, gone when the test run is."""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STOP_WITHIN_S = 60


@contextlib.contextmanager
def running(*parts: str, data: Path | None = None) -> Iterator[dict[str, str]]:
    """Start `parts` (kafka, postgres, clickhouse, temporal) and yield their endpoints by name; stop them at the end.

    Their data is in `data`, or in a directory that goes with them. They also end when this process dies: they watch
    the pipe that is their standard input.
    """
    with contextlib.ExitStack() as cleanup:
        # Below 0755 directories, as an installed system has it; pytest's own temporary directories are private.
        directory = data or Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="meterstream-test-")))
        command = [sys.executable, "-m", "runtime.local", "--stop-with-stdin"]
        process = subprocess.Popen(
            [*command, "--only", ",".join(parts), "--data", str(directory)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        cleanup.callback(_stop, process)
        yield _endpoints(process)


def _endpoints(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    endpoints: dict[str, str] = {}
    for line in process.stdout:
        found = json.loads(line)
        if found.pop("ready", False):
            return endpoints
        endpoints |= found
    raise AssertionError(f"the servers did not start (exit code {process.wait(STOP_WITHIN_S)}); see the error above")


def _stop(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    process.wait(STOP_WITHIN_S)
