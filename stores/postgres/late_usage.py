"""What was billed of periods that late events may still change, and which ended subscriptions are looked at again."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.money import EXACT
from domain.quantities import plain_quantity
from schemas.catalog import TenantLimits
from schemas.closing import Cutoff
from schemas.late_usage import BilledUsage, ClosedSpan, LateLook
from schemas.scope import Scope
from stores.postgres.invoices import spans_of

# An event is accepted so long after its time; one that was refused can be replayed for as long again.
_REACH = f"2 * coalesce(accepted.max_event_age_s, {TenantLimits().max_event_age_s}) * interval '1 second'"

# The kinds of `billed_periods` are named as those of the lines that they stand for.
_SPANS = text(f"""
    SELECT asked.id AS subscription_id, last.tenant, last.environment, line.meter_id, line.generation,
        min(billed.period_start) AS start_at, max(line.period_end) AS end_at,
        greatest(last.cut, max(look.cut)) AS cut, named.customer_references
    FROM unnest(CAST(:ids AS text[])) AS asked (id)
    CROSS JOIN LATERAL (
        SELECT invoice.tenant, invoice.environment, invoice.cut, invoice.as_of
        FROM billed_periods AS billed JOIN invoices AS invoice ON invoice.id = billed.invoice_id
        WHERE billed.subscription_id = asked.id AND billed.kind = 'usage'
        ORDER BY billed.period_start DESC LIMIT 1
    ) AS last
    CROSS JOIN LATERAL (
        SELECT invoice.customer_references
        FROM billed_periods AS billed JOIN invoices AS invoice ON invoice.id = billed.invoice_id
        WHERE billed.subscription_id = asked.id
        ORDER BY invoice.cut DESC, billed.created_at DESC LIMIT 1
    ) AS named
    LEFT JOIN tenant_limits AS accepted
        ON accepted.tenant = last.tenant AND accepted.environment = last.environment
    LEFT JOIN late_looks AS look ON look.subscription_id = asked.id
    JOIN billed_periods AS billed ON billed.subscription_id = asked.id AND billed.kind = 'usage'
        AND billed.period_end > last.as_of - {_REACH}
    JOIN invoice_lines AS line ON line.invoice_id = billed.invoice_id AND line.kind = 'usage'
        AND line.meter_id IS NOT NULL
    GROUP BY asked.id, last.tenant, last.environment, line.meter_id, line.generation, last.cut, named.customer_references
    ORDER BY asked.id, line.meter_id, line.generation
""")

_BILLED = text("""
    SELECT billed.subscription_id, billed.kind, billed.sequence, billed.invoice_id, invoice.cut,
        invoice.customer_references, line.price_id, line.price_key, line.description, line.meter_id, line.generation,
        line.period_start, line.period_end, line.quantity, line.spans,
        billed.period_start AS whole_start, billed.period_end AS whole_end
    FROM unnest(CAST(:ids AS text[]), CAST(:starts AS timestamptz[])) AS asked (id, start_at)
    JOIN billed_periods AS billed ON billed.subscription_id = asked.id AND billed.period_end > asked.start_at
    JOIN invoices AS invoice ON invoice.id = billed.invoice_id
    JOIN invoice_lines AS line ON line.invoice_id = billed.invoice_id AND line.kind = billed.kind
        AND line.meter_id IS NOT NULL
        AND (billed.kind = 'usage'
            OR line.period_start = billed.period_start AND line.period_end = billed.period_end)
    WHERE billed.kind IN ('usage', 'adjustment')
    ORDER BY billed.subscription_id, line.period_start, line.price_id, invoice.cut, billed.sequence
""")

_DUE = text(f"""
    SELECT look.subscription_id, look.cut, :as_of >= held.closed_to + {_REACH} AS is_last
    FROM late_looks AS look
    JOIN subscriptions AS held ON held.id = look.subscription_id
    LEFT JOIN tenant_limits AS accepted
        ON accepted.tenant = held.tenant AND accepted.environment = held.environment
    WHERE look.looked_at <= :before AND look.cut < :cut AND look.subscription_id > :after
    ORDER BY look.subscription_id LIMIT :limit
""")
_IS_ANY_DUE = text("SELECT 1 FROM late_looks WHERE looked_at <= :before LIMIT 1")

_BEGIN = text("""
    INSERT INTO late_looks (subscription_id, cut, looked_at)
    SELECT id, cut, :now FROM unnest(CAST(:ids AS text[]), CAST(:cuts AS bigint[])) AS ended (id, cut)
    ON CONFLICT (subscription_id) DO UPDATE SET cut = excluded.cut, looked_at = excluded.looked_at
""")
_BEGIN_BILLED = text("""
    INSERT INTO late_looks (subscription_id, cut, looked_at)
    SELECT billed.subscription_id, max(invoice.cut), CAST(:now AS timestamptz)
    FROM billed_periods AS billed JOIN invoices AS invoice ON invoice.id = billed.invoice_id
    WHERE billed.subscription_id = :id AND billed.kind = 'usage'
    GROUP BY billed.subscription_id
    ON CONFLICT (subscription_id) DO NOTHING
""")
# In one order, so that two transactions over the same looks wait for one another instead of deadlocking.
_LOCK = text("""
    SELECT 1 FROM late_looks WHERE subscription_id = ANY(CAST(:ids AS text[])) ORDER BY subscription_id FOR UPDATE
""")
# A compare-and-set: nobody looked at it since it was read.
_MOVE = text("""
    UPDATE late_looks AS look SET cut = :cut, looked_at = :now
    FROM unnest(CAST(:ids AS text[]), CAST(:cuts AS bigint[])) AS made (id, cut)
    WHERE look.subscription_id = made.id AND look.cut = made.cut
    RETURNING look.subscription_id
""")
_END = text("DELETE FROM late_looks WHERE subscription_id = ANY(CAST(:ids AS text[]))")


async def closed_spans(conn: AsyncConnection, subscription_ids: Sequence[str]) -> list[ClosedSpan]:
    """What of these subscriptions is billed and may still change, by meter and generation; nothing of one that was never
    closed. As far back as late events and replays are accepted, from the last closing.
    """
    return [
        ClosedSpan(
            scope=Scope(row.tenant, row.environment),
            subscription_id=row.subscription_id,
            meter_id=row.meter_id,
            generation=row.generation,
            start=row.start_at,
            end=row.end_at,
            cut=row.cut,
            names=None if row.customer_references is None else tuple(row.customer_references),
        )
        for row in await conn.execute(_SPANS, {"ids": list(subscription_ids)})
    ]


async def billed_usage(conn: AsyncConnection, starts: Mapping[str, datetime]) -> list[BilledUsage]:
    """By price and span, of periods that end after the instant given for each subscription: what was billed first, with
    what adjustments have added.
    """
    asked = {"ids": list(starts), "starts": list(starts.values())}
    found: dict[tuple[str, str, datetime, datetime], BilledUsage] = {}
    adjusted: dict[tuple[str, datetime, datetime], int] = {}
    for row in await conn.execute(_BILLED, asked):
        place = (row.subscription_id, row.price_id, row.period_start, row.period_end)
        former = found.get(place)
        if former is None:
            found[place] = _first(row)
            continue
        span = (row.subscription_id, row.period_start, row.period_end)
        adjusted[span] = max(adjusted.get(span, 0), row.sequence)
        found[place] = replace(
            former,
            quantity=plain_quantity(EXACT.add(former.quantity, row.quantity)),
            cut=row.cut,
            names=_names(row),
        )
    return [
        replace(one, adjusted=adjusted.get((one.subscription_id, one.period_start, one.period_end), 0))
        for one in found.values()
    ]


def _first(row: Row[Any]) -> BilledUsage:
    return BilledUsage(
        subscription_id=row.subscription_id,
        invoice_id=row.invoice_id,
        price_id=row.price_id,
        price_key=row.price_key,
        description=row.description,
        meter_id=row.meter_id,
        generation=row.generation,
        period_start=row.period_start,
        period_end=row.period_end,
        quantity=plain_quantity(row.quantity),
        cut=row.cut,
        names=_names(row),
        adjusted=0,
        whole=(row.whole_start, row.whole_end),
        spans=spans_of(row),
    )


def _names(row: Row[Any]) -> tuple[str, ...] | None:
    return None if row.customer_references is None else tuple(row.customer_references)


async def is_any_look_due(conn: AsyncConnection, before: datetime) -> bool:
    """Whether an ended subscription was looked at last at `before` or earlier."""
    return (await conn.execute(_IS_ANY_DUE, {"before": before})).first() is not None


async def due_looks(
    conn: AsyncConnection, before: datetime, cutoff: Cutoff, *, after: str, limit: int
) -> list[LateLook]:
    """Ended subscriptions that were looked at last at `before` or earlier, and below `cutoff`, by id."""
    asked = {"before": before, "cut": cutoff.cut, "as_of": cutoff.as_of, "after": after, "limit": limit}
    return [
        LateLook(subscription_id=row.subscription_id, cut=row.cut, is_last=row.is_last)
        for row in await conn.execute(_DUE, asked)
    ]


async def begin_looks(conn: AsyncConnection, ended: Mapping[str, int], now: datetime) -> None:
    """These subscriptions have ended and are billed up to their end, from usage at the cut beside each. Safe to repeat."""
    if ended:
        await conn.execute(_BEGIN, {"ids": list(ended), "cuts": list(ended.values()), "now": now})


async def begin_look_at_billed(conn: AsyncConnection, subscription_id: str, now: datetime) -> None:
    """The subscription ends where it is billed to: from the cut of its last closing on. Safe to repeat."""
    await conn.execute(_BEGIN_BILLED, {"id": subscription_id, "now": now})


async def move_looks(conn: AsyncConnection, looks: Sequence[LateLook], cut: int, now: datetime) -> frozenset[str]:
    """Those that were as `looks` says, and are looked at up to `cut` now. Their rows stay locked until the transaction
    ends. Safe to repeat: a look that was moved on is not as it was.
    """
    moved = {"ids": [look.subscription_id for look in looks], "cuts": [look.cut for look in looks]}
    await conn.execute(_LOCK, {"ids": moved["ids"]})
    return frozenset((await conn.execute(_MOVE, {**moved, "cut": cut, "now": now})).scalars())


async def end_looks(conn: AsyncConnection, subscription_ids: Sequence[str]) -> None:
    """Late events of these are accepted no more. Repeating it changes nothing."""
    if subscription_ids:
        await conn.execute(_END, {"ids": list(subscription_ids)})
