"""Closings as time goes by: the clock and the log move on, and every step is done twice, as by workers that are killed."""

from datetime import datetime

from sqlalchemy import text

from schemas.closing import BatchClosed, ClosingBatch, Cutoff, DueQuestion
from stores.postgres.engine import transaction
from tests.support.closing import Books


async def begin(made: Books, at: datetime) -> None:
    """Cuts can be raised from `at` on."""
    async with transaction(made.engine) as conn:
        await conn.execute(text("UPDATE usage_cut SET raised_at = :at"), {"at": at})


async def move_to(made: Books, now: datetime) -> None:
    """The clock goes to `now`, and the log was read up to it."""
    made.clock.at = now
    async with transaction(made.engine) as conn:
        await conn.execute(text("UPDATE ledger_partitions SET idle_as_of = :at"), {"at": now})


async def close(made: Books, now: datetime, **settings: int) -> tuple[int, BatchClosed]:
    """Closes what is due at `now`, and the cut that later events come after. The second time changes nothing."""
    await move_to(made, now)
    activities = made.activities(**settings)
    cutoff = (await activities.take_cutoff()).cutoff
    assert cutoff is not None
    page = await activities.find_due(DueQuestion(cutoff=cutoff))
    batch = ClosingBatch(cutoff=cutoff, periods=page.periods)
    closed = await activities.close_batch(batch)
    assert (await made.activities(**settings).close_batch(batch)).billed == 0
    return cutoff.cut, closed


async def look(made: Books, now: datetime, **settings: int) -> tuple[Cutoff | None, int]:
    """Looks at what has ended and is to be looked at: the cutoff, and how many invoices were made. Twice as well."""
    await move_to(made, now)
    activities = made.activities(**settings)
    cutoff = (await activities.take_cutoff()).cutoff
    if cutoff is None:
        return None, 0
    late = await activities.bill_late(DueQuestion(cutoff=cutoff))
    assert (await made.activities(**settings).bill_late(DueQuestion(cutoff=cutoff))).billed == 0
    return cutoff, late.billed


async def end(made: Books, subscription_id: str, end_at: datetime) -> None:
    """The subscription ends at `end_at`, a boundary of its periods."""
    async with transaction(made.engine) as conn:
        await conn.execute(
            text("UPDATE subscriptions SET end_at = :at, next_close_at = least(next_close_at, :at) WHERE id = :id"),
            {"id": subscription_id, "at": end_at},
        )
