"""Each activity of a closing alone, on real stores: what it may and may not bill, and that it can be repeated."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.testing import ActivityEnvironment

from domain.errors import NotFound
from runtime.settings import ClickhouseSettings, Secret
from schemas.closing import BatchClosed, ClosingBatch, Cutoff, DuePage, DueQuestion
from stores.clickhouse.client import ClickhouseClient, Parameters, Row
from stores.postgres.closings import failures_of
from stores.postgres.engine import transaction
from stores.postgres.invoices import get_invoice
from tests.support.closing import NOW, SCOPE, Books, books, call, ledger, one_event
from tests.support.usage_events import TOPIC
from workflows.activities import ClosingActivities

MAY, JUNE, JULY = (datetime(2026, month, 1, tzinfo=UTC) for month in (5, 6, 7))
T = TypeVar("T")


@pytest_asyncio.fixture
async def made(postgres_url: str, clickhouse_url: str) -> AsyncIterator[Books]:
    async with books(postgres_url, clickhouse_url, "closing_activities") as found:
        yield found


async def run(activity: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
    return await ActivityEnvironment().run(activity, *arguments)


async def cutoff_of(activities: ClosingActivities) -> Cutoff:
    taken = await run(activities.take_cutoff)
    assert taken.cutoff is not None
    return taken.cutoff


async def due(activities: ClosingActivities, cutoff: Cutoff, after: str = "") -> DuePage:
    return await run(activities.find_due, DueQuestion(cutoff=cutoff, after=after))


async def close_all(activities: ClosingActivities) -> tuple[ClosingBatch, BatchClosed]:
    cutoff = await cutoff_of(activities)
    batch = ClosingBatch(cutoff=cutoff, periods=(await due(activities, cutoff)).periods)
    return batch, await run(activities.close_batch, batch)


async def test_back_dated_months_are_billed_in_order_with_all_references_and_never_twice(made: Books) -> None:
    subscription = await made.subscribe("acme", MAY)
    await made.count(
        [
            call(1, "acme", MAY, "ann"),
            call(2, "acme-old", MAY + timedelta(days=3), "ann"),
            call(3, "cus_acme", JUNE - timedelta(milliseconds=1), "bob"),
            call(4, "acme", JUNE, "bob"),
            call(5, "other", JUNE, "bob"),
            call(6, "acme", JULY, "cyd"),
        ]
    )
    activities = made.activities()
    batch, closed = await close_all(activities)
    assert [(period.start, period.end) for period in batch.periods] == [(MAY, JUNE), (JUNE, JULY)]
    assert closed == BatchClosed(billed=2)
    assert await run(activities.close_batch, batch) == BatchClosed(already=2)
    found = await made.invoices(subscription)
    assert [(one.number, one.period_start, one.state) for one in found] == [
        ("INV-000001", MAY, "open"),
        ("INV-000002", JUNE, "open"),
    ]
    assert [[(line.price_key, line.quantity, line.amount) for line in one.lines] for one in found] == [
        [
            ("fee", Decimal(1), Decimal("31.00")),
            ("calls", Decimal(3), Decimal("0.75")),
            ("users", Decimal(2), Decimal("2.00")),
        ],
        [
            ("fee", Decimal(1), Decimal("31.00")),
            ("calls", Decimal(1), Decimal("0.25")),
            ("users", Decimal(1), Decimal("1.00")),
        ],
    ]
    assert [one.total for one in found] == [Decimal("33.75"), Decimal("32.25")]
    assert {one.cut for one in found} == {batch.cutoff.cut}
    assert not (await due(activities, batch.cutoff)).periods
    assert (await run(activities.take_cutoff)).cutoff is None
    async with transaction(made.engine) as conn:
        assert await get_invoice(conn, SCOPE, "INV-000002") == await get_invoice(conn, SCOPE, found[1].id) == found[1]
        with pytest.raises(NotFound):
            await get_invoice(conn, replace(SCOPE, tenant="another"), found[0].id)


async def test_usage_behind_the_cutoff_is_not_in_the_invoice(made: Books) -> None:
    subscription = await made.subscribe("acme", JUNE)
    activities = made.activities()
    cutoff = await cutoff_of(activities)
    await made.count([call(1, "acme", JUNE, "ann", cut=cutoff.cut - 1), call(2, "acme", JUNE, "ann", cut=cutoff.cut)])
    page = await due(activities, cutoff)
    await run(activities.close_batch, ClosingBatch(cutoff=cutoff, periods=page.periods))
    assert [line.quantity for line in (await made.invoices(subscription))[0].lines] == [1, 1, 1]


async def test_a_recount_that_differs_stops_that_subscription_alone(made: Books) -> None:
    for name in ("acme", "bolt", "core"):
        await made.subscribe(name, MAY)
    await made.count([call(1, "bolt", JUNE, "ann")])
    await made.clickhouse.command(
        f"ALTER TABLE {made.clickhouse.reads('usage_windows')} DELETE WHERE customer = 'bolt' SETTINGS mutations_sync = 2"
    )
    activities = made.activities()
    _, closed = await close_all(activities)
    assert closed == BatchClosed(billed=5, stopped=("sub_bolt",))
    # May was right and is billed; June stands still, and is said why.
    assert [one.period_start for one in await made.invoices("sub_bolt")] == [MAY]
    async with transaction(made.engine) as conn:
        failed = await failures_of(conn, "sub_bolt")
    assert [(one.code, one.start) for one in failed] == [("recount_differs", JUNE)]
    _, again = await close_all(activities)
    assert again == BatchClosed(stopped=("sub_bolt",))
    await made.clickhouse.command(f"TRUNCATE TABLE {made.clickhouse.reads('events')}")
    _, mended = await close_all(activities)
    assert mended == BatchClosed(billed=1)
    async with transaction(made.engine) as conn:
        assert not await failures_of(conn, "sub_bolt")
    assert [one.number for one in await made.invoices()] == [f"INV-00000{n}" for n in range(1, 7)]


async def test_two_that_close_the_same_batch_at_once_bill_it_once(made: Books) -> None:
    for name in ("acme", "bolt", "core"):
        await made.subscribe(name, MAY)
    activities = made.activities()
    cutoff = await cutoff_of(activities)
    batch = ClosingBatch(cutoff=cutoff, periods=(await due(activities, cutoff)).periods)
    closed = await asyncio.gather(*(run(activities.close_batch, batch) for _ in range(3)))
    assert sum(one.billed for one in closed) == 6
    assert [one.number for one in await made.invoices()] == [f"INV-00000{n}" for n in range(1, 7)]
    assert await run(activities.close_batch, batch) == BatchClosed(already=6)


class Ending(ClickhouseClient):
    """Ends a subscription while the usage of its batch is read."""

    subscription_id = ""
    engine: AsyncEngine

    async def rows(self, sql: str, parameters: Parameters | None = None, **settings: Any) -> list[Row]:
        async with transaction(self.engine) as conn:
            given = {"id": self.subscription_id, "at": JUNE + timedelta(days=3)}
            await conn.execute(text("UPDATE subscriptions SET end_at = :at, next_close_at = :at WHERE id = :id"), given)
        return await super().rows(sql, parameters, **settings)


async def test_a_subscription_that_changes_while_its_batch_is_closed_is_left_alone(
    made: Books, clickhouse_url: str
) -> None:
    for name in ("acme", "bolt", "core"):
        await made.subscribe(name, JUNE)
    clickhouse = Ending(ClickhouseSettings(url=Secret(clickhouse_url), database=made.clickhouse.database))
    clickhouse.subscription_id, clickhouse.engine = "sub_bolt", made.engine
    made.clickhouse = clickhouse
    _, closed = await close_all(made.activities())
    assert closed == BatchClosed(billed=2, stopped=("sub_bolt",))
    _, again = await close_all(made.activities())
    assert again == BatchClosed(billed=1)
    await clickhouse.close()
    assert [(one.number, one.subscription_id, one.period_end.day) for one in await made.invoices()] == [
        ("INV-000001", "sub_acme", 1),
        ("INV-000002", "sub_core", 1),
        ("INV-000003", "sub_bolt", 4),
    ]


async def test_a_period_waits_for_its_grace_and_for_the_watermark(made: Books) -> None:
    await made.subscribe("acme", JUNE)
    made.clock.at = JULY + timedelta(hours=1)
    patient = made.activities(grace_s=7200)
    assert (await run(patient.take_cutoff)).cutoff is None
    async with transaction(made.engine) as conn:
        await conn.execute(text("UPDATE ledger_partitions SET idle_as_of = :at WHERE partition = 1"), {"at": MAY})
    assert (await run(made.activities().take_cutoff)).cutoff is None


async def test_a_cutoff_that_is_too_young_and_behind_is_waited_for(made: Books) -> None:
    await made.subscribe("acme", JUNE)
    former = await cutoff_of(made.activities())
    made.clock.at = NOW + timedelta(seconds=20)
    young = made.activities(cut_min_interval_s=60)
    assert await cutoff_of(young) == former
    steps = ledger(made)
    epoch = (await steps.take_over(TOPIC, 0, 1)).epoch
    logged_at = JULY - timedelta(minutes=1)
    intent = one_event(logged_at, NOW)
    block = await steps.write_intent(epoch, intent, 30)
    await steps.finish(epoch, block)
    taken = await run(young.take_cutoff)
    assert (taken.cutoff, taken.wait_s) == (None, 40)
    made.clock.at += timedelta(seconds=40)
    newer = await cutoff_of(young)
    assert (newer.cut, newer.as_of) == (former.cut + 1, NOW)


async def test_a_fee_is_prorated_for_the_stub_before_the_first_calendar_month(made: Books) -> None:
    subscription = await made.subscribe("acme", datetime(2026, 5, 15, tzinfo=UTC), billing="calendar")
    await close_all(made.activities())
    fees = [one.lines[0] for one in await made.invoices(subscription)]
    assert [(line.period_start.day, line.amount) for line in fees] == [(15, Decimal("17.00")), (1, Decimal("31.00"))]
    assert sum(step.amount for step in fees[0].steps) == fees[0].exact_amount == 17


async def test_pages_tell_long_histories_in_order(made: Books) -> None:
    for name in ("acme", "bolt"):
        await made.subscribe(name, datetime(2026, 1, 1, tzinfo=UTC))
    activities = made.activities(batch_size=4)
    cutoff = await cutoff_of(activities)
    first = await due(activities, cutoff)
    assert ([period.start.month for period in first.periods], first.partial, first.after) == (
        [1, 2, 3, 4],
        "sub_acme",
        "",
    )
    await run(activities.close_batch, ClosingBatch(cutoff=cutoff, periods=first.periods))
    second = await due(activities, cutoff, first.after)
    assert [(period.subscription_id, period.start.month) for period in second.periods] == [
        ("sub_acme", 5),
        ("sub_acme", 6),
        ("sub_bolt", 1),
        ("sub_bolt", 2),
    ]
    assert (second.after, second.partial, second.is_last) == ("sub_acme", "sub_bolt", False)
