"""Answers kept under the `Idempotency-Key` of the request that they answered."""

import msgspec
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.scope import Scope
from stores.postgres.tables import idempotency_keys

_UNANSWERED = 0


class KeptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the first request with a key asked and got."""

    operation: str
    request_hash: bytes
    status: int
    body: bytes


async def find(conn: AsyncConnection, scope: Scope, key: str) -> KeptAnswer | None:
    """What was answered under this key; None where nothing was yet."""
    own = {"tenant": scope.tenant, "environment": scope.environment, "key": key}
    kept = (await conn.execute(select(idempotency_keys).filter_by(**own))).first()
    if kept is None:
        return None
    return KeptAnswer(operation=kept.operation, request_hash=kept.request_hash, status=kept.status, body=kept.body)


async def claim(
    conn: AsyncConnection, scope: Scope, key: str, operation: str, request_hash: bytes
) -> KeptAnswer | None:
    """None when this transaction is the first to use the key: it must then `keep` its answer before it commits.

    A concurrent request with the same key waits here for that commit, so no two of them do the work; if it is rolled
    back, this one is the first.
    """
    row = {"tenant": scope.tenant, "environment": scope.environment, "key": key}
    claimed = await conn.execute(
        insert(idempotency_keys)
        .values(**row, operation=operation, request_hash=request_hash, status=_UNANSWERED, body=b"")
        .on_conflict_do_nothing()
        .returning(idempotency_keys.c.key)
    )
    if claimed.first() is not None:
        return None
    kept = (await conn.execute(select(idempotency_keys).filter_by(**row))).one()
    return KeptAnswer(operation=kept.operation, request_hash=kept.request_hash, status=kept.status, body=kept.body)


async def keep(conn: AsyncConnection, scope: Scope, key: str, status: int, body: bytes) -> None:
    """Stores the answer in the transaction that did the work: both are there, or neither."""
    await conn.execute(
        update(idempotency_keys)
        .filter_by(tenant=scope.tenant, environment=scope.environment, key=key)
        .values(status=status, body=body)
    )
