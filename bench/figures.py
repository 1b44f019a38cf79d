"""What was measured: a value a repeat; and the median, spread and ratio that are reported of it."""

import math
from collections.abc import Sequence
from statistics import median

import msgspec

PERCENT = 100

# In these units less is better, so the ratio to the ceiling is turned round: it is never above 1 but for noise.
LESS_IS_BETTER = frozenset({"µs", "ms", "s", "CPU s/million", "MB", "B/event"})


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A figure with one value a repeat. `ceiling` is what the parts allow, measured in the same run; None without one."""

    scenario: str
    figure: str
    unit: str
    values: tuple[float, ...]
    ceiling: float | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A figure as it is published. `ratio` is the share of the ceiling that was reached, 1 at the ceiling."""

    scenario: str
    figure: str
    value: float
    unit: str
    ceiling: float | None
    ratio: float | None


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of `values` that at least `percent` of them do not exceed (nearest rank). ValueError when empty."""
    if not values:
        raise ValueError("no values")
    rank = max(1, math.ceil(len(values) * percent / PERCENT))
    return sorted(values)[rank - 1]


def spread(values: Sequence[float]) -> float:
    """How far the repeats lie apart: (greatest - smallest) / median; 0 where the median is 0."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def rounded(value: float) -> float:
    """Four significant digits: more would say what was not measured."""
    return float(f"{value:.4g}")


def ratio_of(value: float, ceiling: float | None, unit: str) -> float | None:
    if ceiling is None:
        return None
    above, below = (ceiling, value) if unit in LESS_IS_BETTER else (value, ceiling)
    return rounded(above / below) if below else None


def result_of(measured: Measured) -> Result:
    value = median(measured.values)
    return Result(
        scenario=measured.scenario,
        figure=measured.figure,
        value=rounded(value),
        unit=measured.unit,
        ceiling=None if measured.ceiling is None else rounded(measured.ceiling),
        ratio=ratio_of(value, measured.ceiling, measured.unit),
    )
