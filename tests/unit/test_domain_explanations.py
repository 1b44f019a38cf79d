from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from domain.errors import Invalid, NotFound
from domain.explanations import (
    READABLE_WINDOWS,
    check_windows,
    counted_lines,
    line_of,
    part_of_line,
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
    check_windows(short[: MAX_WINDOWS // 1440], "minute", "UTC")
    with pytest.raises(Invalid) as refused:
        check_windows(short, "minute", "UTC")
    assert refused.value.code == "too_many_windows"


def test_a_range_of_events_is_clipped_to_what_the_line_bills() -> None:
    metered = line_of(KEPT, "lin_1")
    assert part_of_line(metered, None, None) == (STARTS, ENDS)
    assert part_of_line(metered, STARTS - timedelta(days=1), STARTS + timedelta(days=1)) == (
        STARTS,
        STARTS + timedelta(days=1),
    )
    for start, end in ((ENDS, None), (None, STARTS), (ENDS, STARTS)):
        with pytest.raises(Invalid) as refused:
            part_of_line(metered, start, end)
        assert refused.value.code == "range_empty"
    with pytest.raises(Invalid) as refused:
        part_of_line(line_of(KEPT, "lin_2"), None, None)
    assert refused.value.code == "line_not_metered"
