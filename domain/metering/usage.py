"""Usage by window and group, from matches: the same rows that a store answers from its windows."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from msgspec.structs import replace

from domain.errors import Invalid
from domain.instants import EPOCH, MILLISECOND, instant
from domain.metering.matches import Placed, within
from domain.metering.measures import measured
from domain.windows import rolling_windows, session_windows
from schemas.measures import Measure
from schemas.meters import Meter
from schemas.usage import TimeWindow, Usage, UsageRow

Group = tuple[str, ...]


def usage_of(
    meter: Meter,
    measure: Measure,
    matches: Sequence[Placed],
    windows: Sequence[TimeWindow],
    group_by: Sequence[str] = (),
) -> Usage:
    """The rows of `windows` (in order, at least one) and the total over their whole range.

    Without `group_by` every window has a row; with it, those of groups that have a match in the window, or a level that
    reaches into it. `matches` are by time. Raises Invalid `dimension_unknown`.
    """
    start_ms, end_ms = _ms(windows[0].start), _ms(windows[-1].end)
    # Without carry a level begins at 0 with the range, and goes on from one window to the next.
    known = [one for one in matches if one.time_ms < end_ms and (measure.carry or one.time_ms >= start_ms)]
    measure = replace(measure, carry=True)
    rows = _rows(meter, measure, known, windows, group_by)
    return Usage(rows=tuple(rows), total=measured(known, measure, start_ms, end_ms))


def rolling_usage(
    meter: Meter,
    measure: Measure,
    matches: Sequence[Placed],
    start: datetime,
    end: datetime,
    length: timedelta,
    group_by: Sequence[str] = (),
) -> list[UsageRow]:
    """At each whole minute of `[start, end)`, the value of the `length` before it. Raises as `rolling_windows`."""
    return _rows(meter, measure, matches, rolling_windows(start, end, length), group_by)


def session_usage(
    meter: Meter,
    measure: Measure,
    matches: Sequence[Placed],
    start: datetime,
    end: datetime,
    gap: timedelta,
    group_by: Sequence[str] = (),
) -> list[UsageRow]:
    """The value of each session that begins in `[start, end)`: sessions are those of each group, by (start, group).

    Raises as `session_windows`, and Invalid `dimension_unknown`.
    """
    rows = [
        _row(measure, held, window, group, group_by)
        for group, held in _grouped(meter, matches, group_by).items()
        for window in session_windows((instant(placed.time_ms) for placed in held), start, end, gap)
    ]
    return sorted(rows, key=_order)


def _rows(
    meter: Meter,
    measure: Measure,
    matches: Sequence[Placed],
    windows: Iterable[TimeWindow],
    group_by: Sequence[str],
) -> list[UsageRow]:
    groups = _grouped(meter, matches, group_by)
    if not group_by:
        groups = groups or {(): []}
    rows: list[UsageRow] = []
    for window in windows:
        for group, held in groups.items():
            row = _row(measure, held, window, group, group_by)
            if (
                not group_by
                or _has_usage(held, window)
                or (measure.aggregation == "weighted_sum" and row.value is not None)
            ):
                rows.append(row)
    return sorted(rows, key=_order)


def _grouped(meter: Meter, matches: Sequence[Placed], group_by: Sequence[str]) -> dict[Group, list[Placed]]:
    places = [_place(meter, name) for name in group_by]
    groups: dict[Group, list[Placed]] = {}
    for placed in matches:
        dimensions = placed.match[3]
        groups.setdefault(tuple(dimensions[place] for place in places), []).append(placed)
    return groups


def _place(meter: Meter, dimension: str) -> int:
    if dimension not in meter.dimensions:
        raise Invalid("dimension_unknown", f"{dimension!r} is no dimension of the meter {meter.key!r}")
    return meter.dimensions.index(dimension)


def _row(
    measure: Measure, matches: Sequence[Placed], window: TimeWindow, group: Group, group_by: Sequence[str]
) -> UsageRow:
    value: Decimal | None = measured(matches, measure, _ms(window.start), _ms(window.end))
    dimensions = {name: text or None for name, text in zip(group_by, group, strict=True)}
    return UsageRow(window_start=window.start, window_end=window.end, value=value, dimensions=dimensions)


def _has_usage(matches: Sequence[Placed], window: TimeWindow) -> bool:
    return bool(within(matches, _ms(window.start), _ms(window.end)))


def _order(row: UsageRow) -> tuple[datetime, list[str]]:
    return row.window_start, [text or "" for text in row.dimensions.values()]


def _ms(at: datetime) -> int:
    """Milliseconds of the epoch, rounded up: stored milliseconds before `at` are those below it."""
    return -(-(at - EPOCH) // MILLISECOND)
