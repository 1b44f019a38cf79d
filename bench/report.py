"""The table for people, the JSON for programs, and the comparison with an older run."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.table import Table

from bench.figures import LESS_IS_BETTER, PERCENT, Measured, Result, result_of, spread

# A change within the spread of the repeats, or within this, says nothing.
NOISE = 0.05


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of this run beside the same one of an older run. `change` is relative: 0.1 is 10 % more than before."""

    scenario: str
    figure: str
    unit: str
    before: float
    now: float
    change: float
    verdict: str  # "better", "worse" or "same"


def number(value: float | None, unit: str = "") -> str:
    if value is None:
        return ""
    if unit in LESS_IS_BETTER or abs(value) < 10:
        return f"{value:,.2f}"
    return f"{value:,.0f}"


def table_of(measured: Sequence[Measured]) -> Table:
    table = Table(title="Meterstream on this machine: medians of the repeats", title_justify="left")
    for heading in ("scenario", "figure"):
        table.add_column(heading, no_wrap=True)
    for heading in ("value", "unit", "spread", "ceiling", "ratio"):
        table.add_column(heading, justify="left" if heading == "unit" else "right", no_wrap=True)
    before = ""
    for one in measured:
        result = result_of(one)
        if before and one.scenario != before:
            table.add_section()
        table.add_row(
            one.scenario if one.scenario != before else "",
            one.figure,
            number(result.value, result.unit),
            result.unit,
            f"{spread(one.values) * PERCENT:.0f} %",
            number(result.ceiling, result.unit),
            number(result.ratio),
        )
        before = one.scenario
    return table


def write_results(measured: Sequence[Measured], path: Path) -> None:
    """As `keep_results`, in the order measured."""
    keep_results([result_of(one) for one in measured], path)


def keep_results(results: Sequence[Result], path: Path) -> None:
    """As a JSON list. Replaces the file at once, so a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = msgspec.json.format(msgspec.json.encode(results), indent=2)
    draft = path.with_suffix(".draft")
    draft.write_bytes(encoded + b"\n")
    draft.replace(path)


def read_results(path: Path) -> list[Result]:
    """Raises OSError, and msgspec.DecodeError when the file is no list of results."""
    return msgspec.json.decode(path.read_bytes(), type=list[Result])


def compared(measured: Sequence[Measured], old: Sequence[Result]) -> list[Comparison]:
    """The figures that both runs have, in the order of this one."""
    known = {(one.scenario, one.figure, one.unit): one.value for one in old}
    found = []
    for one in measured:
        before = known.get((one.scenario, one.figure, one.unit))
        if not before:
            continue
        now = result_of(one).value
        change = now / before - 1
        comparison = Comparison(
            scenario=one.scenario,
            figure=one.figure,
            unit=one.unit,
            before=before,
            now=now,
            change=change,
            verdict=_verdict(change, one),
        )
        found.append(comparison)
    return found


def _verdict(change: float, measured: Measured) -> str:
    if abs(change) <= max(NOISE, spread(measured.values)):
        return "same"
    return "better" if (change < 0) == (measured.unit in LESS_IS_BETTER) else "worse"


def comparison_table(comparisons: Sequence[Comparison], name: str) -> Table:
    table = Table(title=f"Beside {name}", title_justify="left")
    for heading in ("scenario", "figure"):
        table.add_column(heading, no_wrap=True)
    for heading in ("before", "now", "unit", "change", ""):
        table.add_column(heading, justify="left" if heading in {"unit", ""} else "right", no_wrap=True)
    colours = {"better": "green", "worse": "red", "same": "dim"}
    for one in comparisons:
        table.add_row(
            one.scenario,
            one.figure,
            number(one.before, one.unit),
            number(one.now, one.unit),
            one.unit,
            f"{one.change * PERCENT:+.0f} %",
            f"[{colours[one.verdict]}]{one.verdict}[/]",
        )
    return table
