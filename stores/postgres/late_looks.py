"""The one transaction that bills what came late to subscriptions that have ended."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.billing import Billing
from schemas.closing import Cutoff
from schemas.late_usage import LateLook
from stores.postgres.closing_batch import keep_adjustments, numbered, resolve_failures
from stores.postgres.invoices import insert_invoices
from stores.postgres.late_usage import end_looks, move_looks


async def close_looks(
    conn: AsyncConnection, looks: Sequence[LateLook], made: Sequence[Billing], *, cutoff: Cutoff, now: datetime
) -> frozenset[str]:
    """Keeps the invoices of `made`, one billing a look, and that the subscriptions were looked at, in the caller's
    transaction: all or nothing. Those whose look failed stay as they are. Returns what was moved on.

    Safe to repeat: a look that was moved on is not as it was, and the uniqueness of (subscription, period, kind,
    sequence) makes a second invoice of the same adjustment impossible.
    """
    failed = {one.held.id for one in made if one.failed is not None}
    done = [look for look in looks if look.subscription_id not in failed]
    if not done:
        return frozenset()
    moved = await move_looks(conn, done, cutoff.cut, now)
    kept = await numbered(conn, [one for one in made if one.held.id in moved], cutoff.as_of, now)
    await insert_invoices(conn, kept)
    await keep_adjustments(conn, [one.invoice for one in kept])
    await resolve_failures(conn, {one.held.id: one.held.closed_to for one in made if one.held.id in moved})
    await end_looks(conn, [look.subscription_id for look in done if look.is_last and look.subscription_id in moved])
    return moved
