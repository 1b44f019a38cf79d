"""The one transaction that closes periods of many subscriptions: a handful of statements, whatever their number."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.closing import next_period
from domain.subscriptions.terms import plan_at
from schemas.billing import Billing
from schemas.closing import ClosableSubscription
from schemas.invoices import Invoice, KeptInvoice
from stores.postgres.closings import ADJUSTMENT_KIND, CLOSING_KIND, CLOSING_SEQUENCE
from stores.postgres.copying import copy_rows
from stores.postgres.invoice_numbers import take_numbers
from stores.postgres.invoices import InvoiceToKeep, insert_invoices
from stores.postgres.late_usage import begin_looks
from stores.postgres.tables import billed_periods

# In one order, so that two transactions over the same subscriptions wait for one another instead of deadlocking.
_LOCK = text("SELECT 1 FROM subscriptions WHERE id = ANY(CAST(:ids AS text[])) ORDER BY id FOR NO KEY UPDATE")
# A compare-and-set: nobody closed it, ended it or changed its terms since it was read.
_MOVE = text("""
    UPDATE subscriptions AS held
    SET closed_to = made.last, next_close_at = made.following, revision = held.revision + 1,
        plan_version_id = made.holds
    FROM unnest(
        CAST(:ids AS text[]), CAST(:closed_to AS timestamptz[]), CAST(:next_close_at AS timestamptz[]),
        CAST(:end_at AS timestamptz[]), CAST(:plan_versions AS text[]), CAST(:terms AS integer[]),
        CAST(:last AS timestamptz[]), CAST(:following AS timestamptz[]),
        CAST(:holds AS text[])
    ) AS made (id, closed_to, next_close_at, end_at, plan_version_id, terms_revision, last, following, holds)
    WHERE held.id = made.id AND held.closed_to = made.closed_to AND held.next_close_at = made.next_close_at
        AND held.end_at IS NOT DISTINCT FROM made.end_at AND held.plan_version_id = made.plan_version_id
        AND held.terms_revision = made.terms_revision
    RETURNING held.id
""")
_RESOLVE = text("""
    DELETE FROM closing_failures AS failed
    USING unnest(CAST(:ids AS text[]), CAST(:last AS timestamptz[])) AS made (id, last)
    WHERE failed.subscription_id = made.id AND failed.period_start < made.last
""")


async def close_batch(
    conn: AsyncConnection, made: Sequence[Billing], *, as_of: datetime, now: datetime
) -> frozenset[str]:
    """Keeps the invoices of `made`, one billing a subscription, and moves the subscriptions on, in the caller's
    transaction: all or nothing. Returns the subscriptions that were as their billing says; nothing is written for others.

    Safe to repeat: a subscription that was moved on is not as it was, and the uniqueness of (subscription, period, kind,
    sequence) makes a second closing of a period impossible.
    """
    fitting = [one for one in made if one.invoices and one.invoices[0].period_start == one.held.closed_to]
    if not fitting:
        return frozenset()
    ids = [one.held.id for one in fitting]
    await conn.execute(_LOCK, {"ids": ids})
    moved = frozenset((await conn.execute(_MOVE, _moves(fitting))).scalars())
    kept = [one for one in fitting if one.held.id in moved]
    # Before the numbers, as looks do: two transactions take their locks in one order.
    await begin_looks(conn, _ended(kept), now)
    written = await numbered(conn, kept, as_of, now)
    await insert_invoices(conn, written)
    await copy_rows(conn, billed_periods, [_billed(one.invoice) for one in written])
    await keep_adjustments(conn, [one.invoice for one in written])
    await resolve_failures(conn, {one.held.id: one.invoices[-1].period_end for one in kept})
    return moved


async def resolve_failures(conn: AsyncConnection, billed_to: Mapping[str, datetime]) -> None:
    """What stood still of these subscriptions, in periods that begin before the instant of each, does so no more."""
    await conn.execute(_RESOLVE, {"ids": list(billed_to), "last": list(billed_to.values())})


def _moves(made: Sequence[Billing]) -> dict[str, list[Any]]:
    left = [next_period(one.held, one.invoices[-1].period_end) for one in made]
    return {
        "ids": [one.held.id for one in made],
        "closed_to": [one.held.closed_to for one in made],
        "next_close_at": [one.held.next_close_at for one in made],
        "end_at": [one.held.end_at for one in made],
        "plan_versions": [one.held.plan_version_id for one in made],
        "terms": [one.held.terms_revision for one in made],
        "last": [one.invoices[-1].period_end for one in made],
        "following": [None if period is None else period.end for period in left],
        "holds": [_held_from(one.held, one.invoices[-1].period_end) for one in made],
    }


def _held_from(held: ClosableSubscription, at: datetime) -> str:
    """The plan version that is held from `at` on: a change that was planned has come into force by then."""
    return held.plan_version_id if held.life is None else plan_at(held.life, at).plan_version_id


async def keep_adjustments(conn: AsyncConnection, made: Sequence[KeptInvoice]) -> None:
    """That the adjusted periods were: two who bill the same late usage find that they are two, and one of them fails."""
    adjusted = {
        (invoice.subscription_id, line.period_start, line.period_end, line.adjusts.sequence, invoice.id)
        for invoice in made
        for line in invoice.lines
        if line.adjusts is not None
    }
    rows = [
        {
            "subscription_id": subscription_id,
            "period_start": start,
            "period_end": end,
            "kind": ADJUSTMENT_KIND,
            "sequence": sequence,
            "invoice_id": invoice_id,
        }
        for subscription_id, start, end, sequence, invoice_id in sorted(adjusted)
    ]
    await copy_rows(conn, billed_periods, rows)


def _ended(made: Sequence[Billing]) -> dict[str, int]:
    """The subscriptions that are billed up to their end, with the cut that this was read at."""
    last = {one.held.id: (one.held, one.invoices[-1]) for one in made}
    return {
        subscription_id: invoice.cut
        for subscription_id, (held, invoice) in last.items()
        if next_period(held, invoice.period_end) is None
    }


async def numbered(
    conn: AsyncConnection, made: Sequence[Billing], as_of: datetime, now: datetime
) -> list[InvoiceToKeep]:
    """The invoices of `made`, in their order: so are the numbers of each tenant and environment."""
    numbers = await take_numbers(conn, [one.held.scope for one in made for _ in one.invoices], now)
    return [
        InvoiceToKeep(
            scope=one.held.scope,
            invoice=_kept(invoice, next(numbers), as_of, now),
            by=one.by,
            terms_revision=one.held.terms_revision,
        )
        for one in made
        for invoice in one.invoices
    ]


def _kept(invoice: Invoice, number: str, as_of: datetime, now: datetime) -> KeptInvoice:
    fields = {name: getattr(invoice, name) for name in invoice.__struct_fields__}
    return KeptInvoice(**fields, number=number, as_of=as_of, issued_at=now)


def _billed(invoice: KeptInvoice) -> dict[str, Any]:
    return {
        "subscription_id": invoice.subscription_id,
        "period_start": invoice.period_start,
        "period_end": invoice.period_end,
        "kind": CLOSING_KIND,
        "sequence": CLOSING_SEQUENCE,
        "invoice_id": invoice.id,
    }
