from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from msgspec.structs import replace

from domain.errors import Invalid, NotFound
from domain.explanations import (
    READABLE_WINDOWS,
    check_windows,
    counted_lines,
    counted_spans,
    line_of,
    parts_within,
    readable_window,
)
from domain.windows import MAX_WINDOWS, cut_windows
from schemas.prices import PerUnitPrice
from tests.support.invoice_documents import ENDS, STARTS, invoice, line

D = Decimal
KEPT = invoice(
    [
        line(PerUnitPrice(unit_amount=D(2)), "7"),
        line(id="lin_1_minimum", kind="true_up"),
        line(id="lin_2", kind="fee", meter_id=None),
    ]
)


def test_only_lines_that_count_events_lead_to_windows() -> None:
    assert [one.id for one in counted_lines(KEPT)] == ["lin_1"]
    assert counted_lines(KEPT, "lin_2") == []


def test_a_line_that_is_not_on_the_invoice_is_not_found() -> None:
    assert line_of(KEPT, "lin_2").kind == "fee"
    for search in (lambda: line_of(KEPT, "lin_9"), lambda: counted_lines(KEPT, "lin_9")):
        with pytest.raises(NotFound) as missing:
            search()
        assert missing.value.code == "line_not_found"


@pytest.mark.parametrize(
    ("days", "lines", "window"),
    [(1, 1, "hour"), (5, 20, "day"), (31, 60, "day"), (31, 70, "month"), (365, 20, "month"), (365, 400, None)],
)
def test_windows_are_as_fine_as_all_lines_together_leave_them_readable(days: int, lines: int, window: str) -> None:
    start, end = STARTS, STARTS + timedelta(days=days)
    assert readable_window(start, end, lines) == window
    assert window is None or len(cut_windows(start, end, window, "UTC")) * lines <= READABLE_WINDOWS + lines


def test_more_windows_than_one_question_may_have_are_refused_and_one_line_of_them_is_not() -> None:
    day = datetime(2026, 3, 2, tzinfo=UTC) - STARTS
    short = [line(id=f"lin_{number}", period_end=STARTS + day) for number in range(7)]
    spans = [(one.period_start, one.period_end) for one in short]
    check_windows(spans[: MAX_WINDOWS // 1440], "minute", "UTC")
    with pytest.raises(Invalid) as refused:
        check_windows(spans, "minute", "UTC")
    assert refused.value.code == "too_many_windows"


def test_a_line_counts_the_spans_that_it_was_charged_for() -> None:
    day = timedelta(days=1)
    spans = ((STARTS, STARTS + day), (STARTS + 3 * day, ENDS))
    assert counted_spans(replace(line_of(KEPT, "lin_1"), spans=spans)) == spans
    assert counted_spans(line_of(KEPT, "lin_1")) == ((STARTS, ENDS),)


def test_a_range_of_events_is_clipped_to_what_the_line_counts() -> None:
    metered, day = line_of(KEPT, "lin_1"), timedelta(days=1)
    whole = ((STARTS, ENDS),)
    assert parts_within(metered, whole, None, None) == [(STARTS, ENDS)]
    assert parts_within(metered, whole, STARTS - day, STARTS + day) == [(STARTS, STARTS + day)]
    paused = ((STARTS, STARTS + day), (STARTS + 3 * day, ENDS))
    assert parts_within(metered, paused, STARTS + day / 2, STARTS + 4 * day) == [
        (STARTS + day / 2, STARTS + day),
        (STARTS + 3 * day, STARTS + 4 * day),
    ]
    for spans, start, end in (
        (whole, ENDS, None),
        (whole, None, STARTS),
        (whole, ENDS, STARTS),
        (paused, STARTS + day, STARTS + 3 * day),
    ):
        with pytest.raises(Invalid) as refused:
            parts_within(metered, spans, start, end)
        assert refused.value.code == "range_empty"
    with pytest.raises(Invalid) as refused:
        parts_within(line_of(KEPT, "lin_2"), whole, None, None)
    assert refused.value.code == "line_not_metered"
