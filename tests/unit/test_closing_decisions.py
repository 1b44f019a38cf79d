"""What closings decide without any service: which periods are due, how a run goes on, what fees of a part cost."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace
from temporalio import exceptions
from temporalio.exceptions import ActivityError, ApplicationError, RetryState, TimeoutType

from domain.billed_parts import parts_of
from domain.closing import (
    advanced,
    bill_period,
    check_recount,
    closable_before,
    due_page,
    due_periods,
    still_due,
    whole_period,
)
from domain.errors import Conflict
from schemas.closing import BatchClosed, ClosableSubscription, ClosingProgress, Cutoff, DuePage, DuePeriod
from schemas.scope import Scope
from tests.support.closing import plan
from workflows.closing import is_passing
from workflows.converter import DATA_CONVERTER

NOW = datetime(2026, 7, 10, tzinfo=UTC)


def utc(month: int, day: int = 1) -> datetime:
    return datetime(2026, month, day, tzinfo=UTC)


def held(name: str = "a", **changes: Any) -> ClosableSubscription:
    start_at = changes.pop("start_at", utc(1, 31))
    fields: dict[str, Any] = {
        "id": name,
        "scope": Scope("ten", "live"),
        "customer_id": "cus_1",
        "plan_version_id": "plv_1",
        "billing": "anniversary",
        "cadence": "month",
        "timezone": "UTC",
        "start_at": start_at,
        "end_at": None,
        "closed_to": start_at,
        "next_close_at": utc(2, 28),
    }
    return ClosableSubscription(**(fields | changes))


def test_a_period_is_closed_after_its_grace_and_not_before_all_its_events_are_counted() -> None:
    assert closable_before(NOW, 3600, NOW) == NOW - timedelta(hours=1)
    assert closable_before(NOW, 0, utc(6)) == utc(6)


def test_elapsed_periods_are_due_in_order_up_to_the_instant_and_to_the_end() -> None:
    ends = [period.end for period in due_periods(held(), utc(5, 31), 100)]
    assert ends == [utc(2, 28), utc(3, 31), utc(4, 30), utc(5, 31)]
    assert [period.end for period in due_periods(held(), utc(5, 31), 2)] == ends[:2]
    assert not due_periods(held(), utc(2, 28) - timedelta(seconds=1), 100)
    ended = held(end_at=utc(3, 15))
    assert [period.end for period in due_periods(ended, NOW, 100)] == [utc(2, 28), utc(3, 15)]


def test_only_periods_that_are_still_the_next_ones_are_billed() -> None:
    """A change may come between the listing of a period and its closing."""
    listed = [*due_periods(held("a"), utc(3, 31), 2), *due_periods(held("b"), utc(2, 28), 1)]
    subscriptions = {"a": held("a"), "b": held("b")}
    assert still_due(subscriptions, listed) == (listed, ())
    for changed in (
        held("a", end_at=utc(2, 10)),
        held("a", closed_to=utc(2, 28)),
        held("a", billing="calendar", timezone="Mars/Olympus"),
    ):
        assert still_due({**subscriptions, "a": changed}, listed) == (listed[2:], ("a",))


def test_a_page_holds_whole_subscriptions_and_tells_of_the_one_that_did_not_fit() -> None:
    found = [held("a"), held("b"), held("c")]
    page, _ = due_page(found, utc(3, 31), 3, "")
    assert [(period.subscription_id, period.end.month) for period in page.periods] == [("a", 2), ("a", 3), ("b", 2)]
    assert (page.after, page.partial, page.is_last) == ("a", "b", False)
    full, _ = due_page(found, utc(3, 31), 4, "")
    assert (full.after, full.partial, full.is_last) == ("b", "", False)
    last, _ = due_page(found, utc(3, 31), 6, "")
    assert (len(last.periods), last.after, last.is_last) == (6, "c", True)


def test_a_subscription_whose_periods_cannot_be_told_is_passed_over_and_named() -> None:
    lost = held("b", billing="calendar", timezone="Mars/Olympus")
    page, failed = due_page([held("a"), lost, held("c")], utc(2, 28), 6, "")
    assert [period.subscription_id for period in page.periods] == ["a", "c"]
    assert (page.after, page.is_last) == ("c", True)
    assert [(one.subscription_id, one.code) for one in failed] == [("b", "unknown_timezone")]


def test_a_run_goes_on_with_what_did_not_fit_unless_it_is_stopped() -> None:
    page = DuePage(periods=(), after="a", partial="b", is_last=False)
    progress = ClosingProgress(cutoff=Cutoff(cut=2, as_of=NOW), billed=1)
    went_on = advanced(progress, page, BatchClosed(billed=3, already=1))
    assert (went_on.cutoff, went_on.after, went_on.billed, went_on.stopped) == (progress.cutoff, "a", 4, 0)
    skipped = advanced(progress, page, BatchClosed(stopped=("b",)))
    assert (skipped.after, skipped.stopped) == ("b", 1)


def test_usage_that_is_counted_in_two_ways_must_agree() -> None:
    check_recount("met_1", Decimal("1.0"), Decimal(1))
    check_recount("met_1", None, None)
    for recount in (None, Decimal(2)):
        with pytest.raises(Conflict) as stopped:
            check_recount("met_1", Decimal(1), recount)
        assert stopped.value.code == "recount_differs"


@pytest.mark.parametrize(
    ("billing", "start", "end", "fee"),
    [
        ("anniversary", utc(1, 31), utc(2, 28), "31.00"),
        ("calendar", utc(3, 15), utc(4), "17.00"),
        ("calendar", utc(4), utc(5), "31.00"),
    ],
)
def test_a_fee_is_for_the_whole_period_and_prorated_for_a_stub(
    billing: str, start: datetime, end: datetime, fee: str
) -> None:
    begun = utc(1, 31) if billing == "anniversary" else utc(3, 15)
    subscription = held(billing=billing, start_at=begun)
    period = DuePeriod(subscription_id="a", start=start, end=end)
    charge, calls, users = parts_of(subscription, plan(), period)
    invoice = bill_period(
        invoice_id="inv_1",
        line_ids=["lin_1", "lin_2", "lin_3"],
        held=subscription,
        currency="EUR",
        parts=[charge, replace(calls, quantity=Decimal(4)), replace(users, quantity=Decimal(0))],
        period=period,
        cut=3,
    )
    assert [line.amount for line in invoice.lines] == [Decimal(fee), Decimal("1.00"), Decimal(0)]
    assert sum(step.amount for step in invoice.lines[0].steps) == invoice.lines[0].exact_amount
    assert (invoice.state, invoice.total) == ("open", sum(line.amount for line in invoice.lines))


def test_a_period_cut_off_by_the_end_is_a_part_of_the_whole_one() -> None:
    ended = held(end_at=utc(3, 10), closed_to=utc(2, 28))
    whole = whole_period(ended, DuePeriod(subscription_id="a", start=utc(2, 28), end=utc(3, 10)))
    assert (whole.start, whole.end) == (utc(2, 28), utc(3, 31))


def failed(cause: BaseException) -> ActivityError:
    error = ActivityError(
        "failed",
        scheduled_event_id=1,
        started_event_id=2,
        identity="",
        activity_type="close_batch",
        activity_id="1",
        retry_state=RetryState.MAXIMUM_ATTEMPTS_REACHED,
    )
    error.__cause__ = cause
    return error


def test_only_what_is_no_fault_of_the_batch_passes() -> None:
    assert is_passing(failed(ApplicationError("away", type="Unavailable")))
    assert is_passing(failed(exceptions.TimeoutError("late", type=TimeoutType.HEARTBEAT, last_heartbeat_details=[])))
    assert not is_passing(failed(ApplicationError("a bug", type="KeyError")))


async def test_payloads_are_plain_json_that_comes_back_as_it_went() -> None:
    progress = ClosingProgress(cutoff=Cutoff(cut=2, as_of=NOW), after="sub_1")
    [payload] = await DATA_CONVERTER.encode([progress])
    assert payload.metadata["encoding"] == b"json/plain"
    assert b'"as_of":"2026-07-10T00:00:00Z"' in payload.data
    assert await DATA_CONVERTER.decode([payload], [ClosingProgress]) == [progress]
