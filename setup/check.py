"""`make check`: every rule about the code that a machine can decide. Prints what is wrong, and one line a rule."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
PACKAGES = ("api", "cli", "documents", "domain", "runtime", "schemas", "stores", "streams", "workflows")
SCRIPTS = ("demo", "bench", "setup", "tests")

MAX_LINES = 400
COUNTED = {".py", ".sql", ".typ", ".ts", ".tsx", ".css", ".html", ".mjs"}


class Outcome(NamedTuple):
    rule: str
    passed: bool
    output: str
    seconds: float


def present(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if (ROOT / name).is_dir()]


def tools() -> dict[str, list[str]]:
    """Rule -> command. The longest first: two run at a time."""
    packages, everything = present(PACKAGES), present(PACKAGES + SCRIPTS)
    commands = {
        "types": [str(BIN / "mypy"), "--no-error-summary", *everything],
        "format": [str(BIN / "ruff"), "format", "--check", "."],
        "lint": [str(BIN / "ruff"), "check", "."],
        "imports": [str(BIN / "lint-imports")],
        "dead code": [str(BIN / "vulture"), *packages],
    }
    if (ROOT / "dashboard" / "node_modules").is_dir():
        commands["dashboard"] = [str(BIN / "npm"), "--prefix", "dashboard", "run", "--silent", "check"]
    return commands


def run_tool(rule: str, command: list[str]) -> Outcome:
    began = time.monotonic()
    # The scripts of npm look for node on the PATH: it shall be ours.
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, check=False, cwd=ROOT, env=env, capture_output=True, text=True)
    return Outcome(rule, done.returncode == 0, done.stdout + done.stderr, time.monotonic() - began)


def long_files() -> Outcome:
    """A file has one subject: about 250 lines, 400 at most. Tests may be as long as their cases."""
    began = time.monotonic()
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, check=True, cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    counted = [ROOT / name for name in names if Path(name).suffix in COUNTED and not name.startswith("tests/")]
    lengths = {path: len(path.read_text().splitlines()) for path in counted if path.exists()}
    too_long = [
        f"{path.relative_to(ROOT)}: {lines} lines, {MAX_LINES} are allowed"
        for path, lines in sorted(lengths.items())
        if lines > MAX_LINES
    ]
    return Outcome("file length", not too_long, "\n".join(too_long), time.monotonic() - began)


def main() -> int:
    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        outcomes = [*pool.map(lambda item: run_tool(*item), tools().items()), long_files()]
    for outcome in outcomes:
        if not outcome.passed:
            sys.stdout.write(f"--- {outcome.rule}\n{outcome.output.rstrip()}\n")
    for outcome in outcomes:
        sys.stdout.write(f"{'ok  ' if outcome.passed else 'FAIL'} {outcome.rule:<12} {outcome.seconds:5.1f} s\n")
    failed = [outcome.rule for outcome in outcomes if not outcome.passed]
    verdict = f"failed: {', '.join(failed)}" if failed else "passed"
    sys.stdout.write(f"check {verdict} in {time.monotonic() - began:.1f} s\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
