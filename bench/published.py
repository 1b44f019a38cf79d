"""The results that the pages in docs/performance are written from: `bench/results/*.json`, but not those of a quick run."""

from collections.abc import Sequence
from pathlib import Path

from bench.figures import Result
from bench.report import read_results

RESULTS = Path(__file__).resolve().parent / "results"
LATEST, QUICK = "latest.json", "quick.json"


def published_results(paths: Sequence[Path] = ()) -> list[Result]:
    """All figures of `paths`, by default of the published files. Where two have the same figure the later one counts,
    and the latest run of everything counts last.
    """
    if not paths:
        found = [path for path in RESULTS.glob("*.json") if path.name != QUICK]
        paths = sorted(found, key=lambda path: (path.name == LATEST, path.name))
    merged: dict[tuple[str, str, str], Result] = {}
    for path in paths:
        for one in read_results(path):
            merged.pop((one.scenario, one.figure, one.unit), None)
            merged[one.scenario, one.figure, one.unit] = one
    return list(merged.values())
