"""The closing workflow on Temporal's time-skipping server and real stores: killed, repeated, taken apart, replayed."""

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pytest_asyncio
from temporalio import activity
from temporalio.client import Client, WorkflowHistory
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer, Worker

from domain.errors import Unavailable
from schemas.closing import BatchClosed, ClosingBatch, ClosingProgress, ClosingReport, CutoffTaken
from stores.clickhouse.client import TookTooLong
from stores.postgres.closings import failures_of
from stores.postgres.engine import transaction
from tests.support.closing import Books, books, call
from tests.support.closing_time import end
from workflows import closing
from workflows.activities import ClosingActivities
from workflows.calls import SILENT_AT_MOST, Beats
from workflows.closing import CloseDuePeriods
from workflows.converter import DATA_CONVERTER

MAY, JUNE, JULY = (datetime(2026, month, 1, tzinfo=UTC) for month in (5, 6, 7))
JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
HISTORIES = Path(__file__).resolve().parents[1] / "histories"
TASK_QUEUE = "closing-tests"


@pytest_asyncio.fixture
async def made(postgres_url: str, clickhouse_url: str) -> AsyncIterator[Books]:
    async with books(postgres_url, clickhouse_url, "closing_workflow") as found:
        yield found


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    server = Path(sys.executable).with_name("temporal-test-server")
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(server), data_converter=DATA_CONVERTER, identity="tests"
    ) as environment:
        yield environment.client


async def run(client: Client, activities: Sequence[Callable[..., Any]]) -> tuple[ClosingReport, WorkflowHistory]:
    async with Worker(
        client, task_queue=TASK_QUEUE, workflows=[CloseDuePeriods], activities=activities, interceptors=[Beats()]
    ):
        handle = await client.start_workflow(
            CloseDuePeriods.run, ClosingProgress(), id=f"closing-{uuid4()}", task_queue=TASK_QUEUE
        )
        return await handle.result(), await handle.fetch_history()


class Killed(ClosingActivities):
    """Answers are lost: every batch is closed, and the first `times` times nobody learns of it."""

    times = 2

    @activity.defn
    async def close_batch(self, batch: ClosingBatch) -> BatchClosed:
        closed = await super().close_batch(batch)
        if self.times:
            self.times -= 1
            raise Unavailable("worker", "killed after the commit")
        return closed


class Faulty(ClosingActivities):
    """Has a bug that shows with one subscription."""

    @activity.defn
    async def close_batch(self, batch: ClosingBatch) -> BatchClosed:
        if any(period.subscription_id == "sub_bolt" for period in batch.periods):
            raise ZeroDivisionError("a bug")
        return await super().close_batch(batch)


class Large(ClosingActivities):
    """One subscription has more usage than the server reads in time; so has each batch that it is in."""

    batches: ClassVar[list[int]] = []

    @activity.defn
    async def close_batch(self, batch: ClosingBatch) -> BatchClosed:
        self.batches.append(len(batch.periods))
        if any(period.subscription_id == "sub_bolt" for period in batch.periods):
            raise TookTooLong("clickhouse", "time-out")
        return await super().close_batch(batch)


class Young(ClosingActivities):
    """Its cut cannot be raised at first."""

    waits = 1

    @activity.defn
    async def take_cutoff(self) -> CutoffTaken:
        if self.waits:
            self.waits -= 1
            return CutoffTaken(wait_s=59)
        return await super().take_cutoff()


def periods(books: Sequence[Any]) -> list[tuple[str, int]]:
    return sorted((invoice.subscription_id, invoice.period_start.month) for invoice in books)


def rebuilt(kind: type[ClosingActivities], made: Books, **settings: int) -> ClosingActivities:
    plain = made.activities(**settings)
    other = kind.__new__(kind)
    other.__dict__.update(plain.__dict__)
    return other


async def test_every_month_is_billed_once_though_answers_are_lost(client: Client, made: Books) -> None:
    await made.subscribe("acme", JANUARY)
    await made.subscribe("bolt", MAY)
    await made.count([call(1, "acme", JUNE, "ann"), call(2, "bolt-old", MAY, "bob"), call(3, "bolt", JULY, "bob")])
    report, _ = await run(client, rebuilt(Killed, made, batch_size=3).all)
    assert report.stopped == 0
    found = await made.invoices()
    assert periods(found) == [*(("sub_acme", month) for month in range(1, 7)), ("sub_bolt", 5), ("sub_bolt", 6)]
    assert [invoice.number for invoice in found] == [f"INV-{n:06d}" for n in range(1, 9)]
    calls = {(one.subscription_id, one.period_start.month): one.lines[1].quantity for one in found}
    assert {place for place, quantity in calls.items() if quantity} == {("sub_acme", 6), ("sub_bolt", 5)}
    again, _ = await run(client, made.activities().all)
    assert again == ClosingReport(cut=None, billed=0, stopped=0)
    assert len(await made.invoices()) == 8


async def test_what_came_late_to_an_ended_subscription_is_billed_by_the_schedule_once(
    client: Client, made: Books
) -> None:
    await made.subscribe("acme", MAY)
    await end(made, "sub_acme", JUNE)
    first, _ = await run(client, made.activities().all)
    assert (first.billed, first.cut) == (1, 2)
    await made.count([call(1, "acme", MAY, "ann", cut=2)])
    made.clock.at += timedelta(days=2)
    late, history = await run(client, made.activities(batch_size=1).all)
    assert (late.billed, late.stopped) == (1, 0)
    _, adjustment = await made.invoices()
    assert [(line.kind, str(line.amount)) for line in adjustment.lines] == [
        ("adjustment", "0.25"),
        ("adjustment", "1.00"),
    ]
    await replayer().replay_workflow(history)
    again, _ = await run(client, made.activities().all)
    assert again == ClosingReport(cut=None, billed=0, stopped=0)


async def test_a_bug_with_one_subscription_holds_up_no_other(client: Client, made: Books) -> None:
    for name in ("acme", "bolt", "core"):
        await made.subscribe(name, JUNE)
    report, _ = await run(client, rebuilt(Faulty, made).all)
    assert (report.billed, report.stopped) == (2, 1)
    assert periods(await made.invoices()) == [("sub_acme", 6), ("sub_core", 6)]
    async with transaction(made.engine) as conn:
        assert [one.code for one in await failures_of(conn, "sub_bolt")] == [closing.UNEXPECTED]
    mended, _ = await run(client, made.activities().all)
    assert (mended.billed, mended.stopped) == (1, 0)


async def test_a_subscription_with_more_usage_than_can_be_read_in_time_holds_up_no_other(
    client: Client, made: Books
) -> None:
    for name in ("acme", "bolt", "core"):
        await made.subscribe(name, JUNE)
    report, _ = await run(client, rebuilt(Large, made).all)
    assert (report.billed, report.stopped) == (2, 1)
    assert periods(await made.invoices()) == [("sub_acme", 6), ("sub_core", 6)]
    assert Large.batches == [3, 1, 1, 1]  # what is too slow is not tried again as it was
    async with transaction(made.engine) as conn:
        assert [one.code for one in await failures_of(conn, "sub_bolt")] == [closing.TOO_SLOW]


async def test_every_activity_beats_so_that_a_killed_worker_is_noticed_whichever_it_was_at(
    client: Client, made: Books
) -> None:
    await made.subscribe("acme", MAY)
    await made.subscribe("bolt", JUNE)
    _, history = await run(client, rebuilt(Faulty, made, batch_size=2).all)
    called = [
        event.activity_task_scheduled_event_attributes
        for event in history.events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert {one.activity_type.name for one in called} == {
        "take_cutoff",
        "find_due",
        "close_batch",
        "record_failure",
        "bill_late",
    }
    assert {one.heartbeat_timeout.ToTimedelta() for one in called} == {SILENT_AT_MOST}


async def test_a_young_cut_is_waited_for_and_the_history_replays(client: Client, made: Books) -> None:
    await made.subscribe("acme", MAY)
    await made.subscribe("bolt", JUNE)
    report, history = await run(client, rebuilt(Young, made, batch_size=2).all)
    assert (report.billed, report.stopped) == (3, 0)
    await replayer().replay_workflow(history)


async def test_histories_of_earlier_versions_replay() -> None:
    """What runs while a new version is deployed goes on in it: a change of the workflow's steps needs a patch."""
    stored = sorted(HISTORIES.glob("*.json"))
    assert stored
    for file in stored:
        await replayer().replay_workflow(WorkflowHistory.from_json(file.stem, file.read_text()))


def replayer() -> Replayer:
    return Replayer(workflows=[CloseDuePeriods], data_converter=DATA_CONVERTER)
