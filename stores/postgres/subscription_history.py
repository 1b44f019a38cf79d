"""The history of a subscription: records that are only ever added."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.subscription_changes import ChangeRecord, History
from stores.postgres.tables import subscription_changes


async def append_changes(conn: AsyncConnection, subscription_id: str, records: Sequence[ChangeRecord]) -> None:
    """In the transaction that writes the row they come to, whose lock the caller holds.

    Safe to repeat by (subscription, revision) and (subscription, key): neither stands there twice.
    """
    rows = [
        {
            "subscription_id": subscription_id,
            "revision": record.revision,
            "key": record.key,
            "record": msgspec.to_builtins(record),
        }
        for record in records
    ]
    await conn.execute(insert(subscription_changes), rows)


async def history_of(conn: AsyncConnection, subscription_id: str, revision: int | None = None) -> History:
    """All records in order; those up to `revision` where one is given. Empty where none was written."""
    query = select(subscription_changes.c.record).where(subscription_changes.c.subscription_id == subscription_id)
    if revision is not None:
        query = query.where(subscription_changes.c.revision <= revision)
    return tuple(_record(row) for row in await conn.execute(query.order_by(subscription_changes.c.revision)))


async def history_page(conn: AsyncConnection, subscription_id: str, *, limit: int, after: int) -> list[ChangeRecord]:
    """Oldest first, up to `limit + 1`, from the revision after `after` on."""
    query = select(subscription_changes.c.record).where(
        subscription_changes.c.subscription_id == subscription_id, subscription_changes.c.revision > after
    )
    rows = await conn.execute(query.order_by(subscription_changes.c.revision).limit(limit + 1))
    return [_record(row) for row in rows]


def _record(row: Row[Any]) -> ChangeRecord:
    return msgspec.convert(row.record, ChangeRecord)
