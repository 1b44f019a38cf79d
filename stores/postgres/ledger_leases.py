"""The right to act for an old intent (protocol 1): one block at a time among those of a cut, whatever their partitions.

Blocks of one cut share rows of `usage_windows`. Whoever is to tell what of a block is missing there needs them to stand
still: no request of another block of the cut may be on its way, and none may be sent. A lease is a deadline in the
future that only one of them has. Every request carries the deadline it was sent under, so a holder that stops holds
nobody up for longer than that.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.ledger import LedgerBlock
from stores.postgres.engine import autocommit, transaction

# From here on no new block carries the cut: intents read it FOR SHARE (protocol 10).
_RAISE_ABOVE = text("""
    WITH raised AS (
        UPDATE usage_cut SET cut = :cut + 1, raised_at = now() WHERE id = 1 AND cut <= :cut RETURNING cut, raised_at
    ), kept AS (
        INSERT INTO usage_cuts (cut, raised_at) SELECT cut, raised_at FROM raised ON CONFLICT (cut) DO NOTHING
    )
    SELECT cut FROM raised
""")

_OWN = text("""
    SELECT partition FROM ledger_partitions
    WHERE topic_id = :topic_id AND partition = :partition AND epoch = :epoch
        AND last_offset = :before AND open_last_offset = :last_offset
    FOR UPDATE
""")

# Ours among them. A block without rows sends nothing. now() is the transaction's start: never later than the truth.
_OPEN_AT_CUT = text("""
    SELECT extract(epoch FROM insert_before + make_interval(secs => CAST(:skew_s AS float8)) - now()) AS left_s
    FROM ledger_blocks WHERE cut = :cut AND state = 'intent' AND stored > 0
    ORDER BY topic_id, partition FOR UPDATE
""")

# 1970: the token of the block is not to be trusted any more, however young it is (see RENEW).
_FORGET = text("""
    UPDATE ledger_blocks SET intent_at = to_timestamp(0) WHERE cut = :cut AND state = 'intent' AND stored > 0
""")

_TAKE = text("""
    UPDATE ledger_blocks SET epoch = :epoch, renewals = renewals + 1,
        insert_before = now() + make_interval(secs => CAST(:deadline_s AS float8))
    WHERE topic_id = :topic_id AND partition = :partition AND first_offset = :first_offset AND state = 'intent'
    RETURNING intent_at, insert_before
""")


class Lost(Exception):  # noqa: N818 - the ledger says Fenced of it
    """The partition is another worker's, or the block is not open."""


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger row holds now. `insert_before` is the end of the lease."""

    intent_at: datetime
    insert_before: datetime


async def raise_above(engine: AsyncEngine, cut: int) -> None:
    """Let no new block carry `cut` or less. Safe to repeat."""
    async with autocommit(engine) as connection:
        await connection.execute(_RAISE_ABOVE, {"cut": cut})


async def lease(
    engine: AsyncEngine, block: LedgerBlock, arguments: Mapping[str, Any], *, skew_s: float
) -> Granted | float:
    """A lease for `block`, or the seconds after which the last deadline of its cut will have passed: ask again.

    `arguments` are the ledger's for a renewal. Once granted, every other open block of the cut counts as forgotten: its
    token is not trusted any more, and it too goes on by a lease only. Raises Lost.

    Safe to repeat: after an unknown outcome the deadline that was given, and never used, is waited out.
    """
    await raise_above(engine, block.cut)
    at_cut = {"cut": block.cut, "skew_s": skew_s}
    async with transaction(engine) as connection:
        if (await connection.execute(_OWN, dict(arguments))).first() is None:
            raise Lost
        left_s = [float(row.left_s) for row in (await connection.execute(_OPEN_AT_CUT, at_cut)).all()]
        if any(left > 0 for left in left_s):
            return max(left_s)
        await connection.execute(_FORGET, {"cut": block.cut})
        row = (await connection.execute(_TAKE, dict(arguments))).first()
        if row is None:
            raise Lost
        return Granted(intent_at=row.intent_at, insert_before=row.insert_before)
