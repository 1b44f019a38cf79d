"""Several runs as one: the median of each figure over the runs that have it.

`python -m bench.medians RUN.json RUN.json ... --output bench/results/latest.json`. A machine that others use too is twice as
fast in one quarter of an hour as in the next: one run says what it could do then, three say what to expect.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.figures import Result, rounded
from bench.report import keep_results, read_results


def medians(runs: Sequence[Sequence[Result]]) -> list[Result]:
    """Value, ceiling and ratio each by themselves: a ratio is one of a single run. In the order of their first run."""
    found: dict[tuple[str, str, str], list[Result]] = defaultdict(list)
    for run in runs:
        for one in run:
            found[one.scenario, one.figure, one.unit].append(one)
    return [
        Result(
            scenario=scenario,
            figure=figure,
            value=rounded(median(one.value for one in same)),
            unit=unit,
            ceiling=_median([one.ceiling for one in same]),
            ratio=_median([one.ratio for one in same]),
        )
        for (scenario, figure, unit), same in found.items()
    ]


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return rounded(median(known)) if known else None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.medians", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    keep_results(medians([read_results(path) for path in given.runs]), given.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
