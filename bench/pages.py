"""Writes what docs/performance/ shows of the results: growth curves as SVG, the table of figures, the capacity page.

`python -m bench.pages [RESULTS.json ...]`; by default all of bench/results but the quick run's.
"""

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from bench import capacity
from bench.figures import Result
from bench.plots import Line, Plot, svg_of
from bench.published import published_results
from bench.report import number
from bench.targets import TARGETS

DOCS = Path(__file__).resolve().parents[1] / "docs" / "performance"
NOTE = "Written by `python -m bench.pages` from `bench/results`. Do not edit.\n"
_NUMBER = r"(?P<x>[\d,]+)"


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """One plot: the figures of `scenario` whose text is `pattern`, by its number `x`, a line for each `name` in it."""

    file: str
    title: str
    x_label: str
    y_label: str
    scenario: str
    pattern: str
    aim: float | None = None
    ceilings: bool = False
    logarithmic: bool = False  # `y` too


CURVES = (
    Curve(
        file="ingest",
        title="Events accepted a second, by the events in a request",
        x_label="events a request",
        y_label="events/s accepted after acks=all",
        scenario="ingest",
        pattern=rf"{_NUMBER} events? a request, (?:64|32|16|8|4) clients",
        ceilings=True,
        logarithmic=True,
    ),
    Curve(
        file="freshness",
        title="From accepted to visible, as the rate grows (median)",
        x_label="events/s",
        y_label="milliseconds",
        scenario="freshness",
        pattern=rf"at {_NUMBER} events/s, (?P<name>.+), p50",
    ),
    Curve(
        file="usage",
        title="Usage queries over HTTP (p95), as the stored events grow",
        x_label="stored events",
        y_label="milliseconds",
        scenario="usage",
        pattern=rf"{_NUMBER} stored events, (?P<name>.+), p95",
    ),
    Curve(
        file="cost",
        title="CPU time per million events, as the stored events grow",
        x_label="stored events before",
        y_label="CPU seconds per million events",
        scenario="cost",
        pattern=rf"{_NUMBER} stored events, (?P<name>all processes|worker and ClickHouse|worker-ingest|clickhouse|api)",
    ),
    Curve(
        file="closing",
        title="Invoices a second, by the subscriptions that are due",
        x_label="due subscriptions",
        y_label="invoices/s, due to issued",
        scenario="closing",
        pattern=rf"{_NUMBER} due subscriptions",
        aim=200,
    ),
)


def plot_of(curve: Curve, results: Sequence[Result]) -> Plot | None:
    """None where fewer than two numbers were measured: one point is no curve."""
    values: dict[str, dict[float, float]] = defaultdict(dict)
    ceilings: dict[float, float] = {}
    for one in results:
        found = re.fullmatch(curve.pattern, one.figure) if one.scenario == curve.scenario else None
        if found is None:
            continue
        x = float(found["x"].replace(",", ""))
        values[found.groupdict().get("name") or "measured"][x] = one.value
        if curve.ceilings and one.ceiling is not None:
            ceilings[x] = one.ceiling
    places = sorted({x for points in values.values() for x in points})
    if len(places) < 2:
        return None
    lines = [Line(name=name, points=tuple(sorted(points.items()))) for name, points in values.items()]
    if ceilings:
        lines.append(Line(name="ceiling: the parts by themselves", points=tuple(sorted(ceilings.items())), limit=True))
    if curve.aim is not None:
        lines.append(Line(name="target", points=tuple((x, curve.aim) for x in places), limit=True))
    return Plot(
        title=curve.title,
        x_label=curve.x_label,
        y_label=curve.y_label,
        lines=tuple(lines),
        logarithmic=curve.logarithmic,
    )


# --- the pages ------------------------------------------------------------------------------------------------------


def figures_page(results: Sequence[Result]) -> str:
    parts = ["# Figures\n", NOTE]
    parts.append("A ratio is the share of the ceiling that was reached; 1 is as fast as the part by itself.\n")
    parts += [
        "## Targets\n",
        *_table(("", "figure", "target", "measured", "unit", "ceiling", "ratio", ""), _aims(results)),
    ]
    by_scenario: dict[str, list[Result]] = defaultdict(list)
    for one in results:
        by_scenario[one.scenario].append(one)
    for scenario, found in by_scenario.items():
        parts += [f"\n## {scenario}\n", *_table(("figure", "value", "unit", "ceiling", "ratio"), map(_cells, found))]
    return "\n".join([*parts, ""])


def _aims(results: Sequence[Result]) -> Iterator[tuple[str, ...]]:
    for target in TARGETS:
        found = target.found(results)
        if found is None:
            yield target.scenario, target.figure, target.aim, "not measured", "", "", "", ""
        else:
            yield target.scenario, target.figure, target.aim, *_cells(found)[1:], _VERDICTS[target.is_met(results)]


_VERDICTS = {True: "met", False: "**not met**", None: "nothing to compare with"}


def _cells(one: Result) -> tuple[str, ...]:
    return one.figure, number(one.value, one.unit), one.unit, number(one.ceiling, one.unit), number(one.ratio)


def _table(heads: Sequence[str], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'|'.join('---' for _ in heads)}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def capacity_page(costs: capacity.Costs) -> str:
    """What the rates need, with every assumption that went into it."""
    heads, *rows = capacity.rows_of([capacity.plan(costs, rate) for rate in capacity.RATES])
    spent = ((name, f"{costs.cpu_s_a_million[name]:.2f}") for name in capacity.PROCESSES)
    return "\n".join(
        [
            "# Capacity\n",
            NOTE,
            "What a rate of events needs when it is held all the time, computed from the measured costs below: rate times",
            "cost, rounded up to whole processes and servers. Nothing above the rates in [figures](figures.md) was run: the",
            "larger columns say what the costs add up to, and where to begin to measure.\n",
            *_table(heads, iter(rows)),
            "\n## Measured costs\n",
            *_table(("process", "CPU seconds per million events"), spent),
            f"\nAn event takes {costs.event_bytes:.0f} bytes in ClickHouse (itself and its part of the windows, compressed)",
            f"and {costs.log_bytes:.0f} bytes in Kafka (itself and what follows from it). Measured with two meters for each",
            "event, 1,000 events a request.",
            "\n## Assumptions\n",
            *_assumptions(),
            "\n## What is left out\n",
            "Network, backups, load balancers, people. Checks, usage queries and closings: their figures are in",
            "[figures](figures.md), and they add to the API, ClickHouse and PostgreSQL. A core of a cloud is not a core of the",
            "machine that was measured.\n",
        ]
    )


def _assumptions() -> Iterator[str]:
    yield f"* Cores are busy to {capacity.UTILISATION:.0%}; the rest is for peaks, restarts and catching up."
    yield f"* {capacity.PARTITIONS_A_WORKER} partitions a worker, a power of two: workers can be doubled on the same topic."
    yield (
        f"* ClickHouse {capacity.CLICKHOUSE_REPLICAS} replicas, Kafka {capacity.KAFKA_REPLICAS}, PostgreSQL 2; servers of "
        f"{capacity.CORES_A_SERVER} cores, smaller ones where the work fills no such server."
    )
    yield (
        f"* Events are kept for {capacity.EVENTS_KEPT_MONTHS} months, the log for {capacity.KAFKA_KEPT_DAYS} days; disks are "
        f"filled to {capacity.DISK_FILLED:.0%}."
    )
    yield (
        f"* A core-hour with 4 GB of memory costs {capacity.PRICE_A_CORE_HOUR} USD, a GB-month of disk "
        f"{capacity.PRICE_A_GB_MONTH} USD; a month has {capacity.HOURS_A_MONTH} hours."
    )


def write(results: Sequence[Result], directory: Path, say: Callable[[str], None]) -> None:
    """What cannot be made of these results is said and left as it is."""
    directory.mkdir(parents=True, exist_ok=True)
    for curve in CURVES:
        plot = plot_of(curve, results)
        if plot is None:
            say(f"no curve {curve.file}: it needs two numbers of {curve.scenario}")
        else:
            (directory / f"{curve.file}.svg").write_text(svg_of(plot))
    (directory / "figures.md").write_text(figures_page(results))
    try:
        costs = capacity.costs_of(results)
    except capacity.MissingFigure as missing:
        say(str(missing))
    else:
        (directory / "capacity.md").write_text(capacity_page(costs))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description=__doc__)
    parser.add_argument("results", nargs="*", type=Path, help="JSON of runs, the later ones count")
    parser.add_argument("--to", type=Path, default=DOCS)
    given = parser.parse_args()
    write(published_results(given.results), given.to, print)
    return 0


if __name__ == "__main__":
    sys.exit(main())
