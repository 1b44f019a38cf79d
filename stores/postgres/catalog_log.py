"""The catalog's versions: one row locked and counted up by each transaction that changes it, so versions commit in order.

Changes are rows that are never updated: a block's intent names a version, and it can be loaded again (protocol 7).
"""

from collections.abc import Sequence

import msgspec
from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from schemas.catalog import CatalogChange, CatalogVersion
from schemas.topics import CATALOG_CHANGED
from stores.postgres.engine import autocommit
from stores.postgres.outbox import enqueue
from stores.postgres.tables import catalog_changes, catalog_head

_BEGIN = text("UPDATE catalog_head SET version = version + 1 WHERE id = 1 RETURNING version")


async def begin_version(connection: AsyncConnection) -> int:
    """The next version, for the caller's transaction; others that change the catalog wait until it ends.

    Call it before reading what is to be changed: then two changes of one object cannot miss each other. Every version
    begun must be `record`ed in the same transaction, also without changes, so that readers see no gap.
    """
    return int((await connection.execute(_BEGIN)).scalar_one())


async def record(connection: AsyncConnection, version: int, changes: Sequence[CatalogChange]) -> None:
    """Keep the version's changes, and publish them as one record of `catalog.changed` (key: the version as text).

    Idempotency key: the version (and the change's place in it); it is the transaction's own.
    """
    if changes:
        rows = [
            {
                "version": version,
                "sequence": sequence,
                "tenant": change.tenant,
                "environment": change.environment,
                "kind": change.kind,
                "key": change.key,
                "body": msgspec.to_builtins(change.body),
            }
            for sequence, change in enumerate(changes)
        ]
        await connection.execute(insert(catalog_changes), rows)
    value = msgspec.json.encode(CatalogVersion(version=version, changes=list(changes)))
    await enqueue(connection, CATALOG_CHANGED, 0, str(version).encode(), value)


async def head_version(engine: AsyncEngine) -> int:
    """The newest committed version; 0 before the first. Raises `Unavailable`."""
    async with autocommit(engine) as connection:
        return int((await connection.execute(select(catalog_head.c.version))).scalar_one())


async def versions_after(engine: AsyncEngine, version: int) -> list[CatalogVersion]:
    """Every version above `version`, in order, from the rows: what the topic holds, should it ever be lost."""
    async with autocommit(engine) as connection:
        head = int((await connection.execute(select(catalog_head.c.version))).scalar_one())
        statement = (
            select(catalog_changes)
            .where(catalog_changes.c.version > version, catalog_changes.c.version <= head)
            .order_by(catalog_changes.c.version, catalog_changes.c.sequence)
        )
        rows = (await connection.execute(statement)).all()
    changes: dict[int, list[CatalogChange]] = {number: [] for number in range(version + 1, head + 1)}
    for row in rows:
        changes[row.version].append(
            CatalogChange(kind=row.kind, tenant=row.tenant, environment=row.environment, key=row.key, body=row.body)
        )
    return [CatalogVersion(version=number, changes=found) for number, found in changes.items()]
