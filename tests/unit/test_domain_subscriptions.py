from datetime import UTC, datetime
from typing import Any

import pytest

from domain.errors import Invalid
from domain.subscriptions import period_anchor, period_to_close, status_at, validate_start
from schemas.periods import Cadence, Period

MONTH = Cadence(unit="month")
JAN_31 = datetime(2026, 1, 31, tzinfo=UTC)


def _close(**changes: Any) -> Period | None:
    terms: dict[str, Any] = {
        "start_at": JAN_31,
        "end_at": None,
        "billing": "anniversary",
        "cadence": MONTH,
        "zone": "UTC",
        "closed_to": JAN_31,
    }
    return period_to_close(**{**terms, **changes})


def test_periods_are_closed_in_order_and_return_to_the_31st() -> None:
    ends = []
    closed_to = JAN_31
    for _ in range(3):
        period = _close(closed_to=closed_to)
        assert period is not None
        assert period.start == closed_to
        closed_to = period.end
        ends.append(closed_to)
    assert ends == [datetime(2026, month, day, tzinfo=UTC) for month, day in ((2, 28), (3, 31), (4, 30))]


def test_the_last_period_is_cut_off_at_the_end_of_the_subscription() -> None:
    end_at = datetime(2026, 2, 10, tzinfo=UTC)
    period = _close(end_at=end_at)
    assert period is not None
    assert period.end == end_at
    assert _close(end_at=end_at, closed_to=end_at) is None


def test_calendar_billing_begins_with_a_stub_up_to_the_first_of_the_month() -> None:
    period = _close(
        start_at=datetime(2026, 1, 15, tzinfo=UTC), billing="calendar", closed_to=datetime(2026, 1, 15, tzinfo=UTC)
    )
    assert period is not None
    assert (period.start.day, period.end) == (15, datetime(2026, 2, 1, tzinfo=UTC))
    assert period_anchor(datetime(2026, 1, 15, tzinfo=UTC), "calendar", MONTH, "UTC") == datetime(
        2026, 2, 1, tzinfo=UTC
    )


def test_status_follows_the_instant() -> None:
    before, after = datetime(2026, 1, 30, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    assert status_at(before, JAN_31, None) == "scheduled"
    assert status_at(JAN_31, JAN_31, None) == "active"
    assert status_at(JAN_31, JAN_31, after) == "cancelled"
    assert status_at(after, JAN_31, after) == "ended"


@pytest.mark.parametrize(
    ("start_at", "code"),
    [
        (datetime(2026, 1, 1), "time_without_zone"),  # noqa: DTZ001 - the case
        (datetime(2026, 1, 1, microsecond=5, tzinfo=UTC), "start_not_whole_seconds"),
        (datetime(1999, 12, 31, tzinfo=UTC), "start_out_of_range"),
        (datetime(2100, 1, 1, tzinfo=UTC), "start_out_of_range"),
    ],
)
def test_a_start_lies_on_a_whole_second_of_a_known_zone(start_at: datetime, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        validate_start(start_at)
    assert refused.value.code == code
