"""Small pieces that every catalog store shares."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, Table, and_, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import Conflict, NotFound
from schemas.scope import Scope

UNIQUE_VIOLATION = "23505"
NUMBER_DIGITS = 9  # any number that long fits the column


def in_scope(table: Table, scope: Scope) -> ColumnElement[bool]:
    return and_(table.c.tenant == scope.tenant, table.c.environment == scope.environment)


async def find(conn: AsyncConnection, table: Table, scope: Scope, reference: str, what: str) -> Row[Any]:
    """The row with this id or key. Raises NotFound `<what>_not_found`, also for an object of another tenant."""
    row = await find_maybe(conn, table, scope, reference)
    if row is None:
        raise NotFound(f"{what}_not_found", f"there is no {what} {reference!r}; its list shows those there are")
    return row


async def find_maybe(conn: AsyncConnection, table: Table, scope: Scope, reference: str) -> Row[Any] | None:
    by_reference = or_(table.c.id == reference, table.c.key == reference)
    return (await conn.execute(select(table).where(in_scope(table, scope), by_reference))).first()


async def find_named(
    conn: AsyncConnection, table: Table, scope: Scope, references: Sequence[str]
) -> dict[str, Row[Any]]:
    """The rows with these ids or keys by the reference used; those that are not there are left out."""
    by_reference = or_(table.c.id.in_(references), table.c.key.in_(references))
    rows = (await conn.execute(select(table).where(in_scope(table, scope), by_reference))).all()
    return {name: row for row in rows for name in (row.key, row.id) if name in references}


def page(query: Select[Any], id_column: ColumnElement[str], *, limit: int, after: str | None) -> Select[Any]:
    """Oldest first, one more than `limit` so that the caller sees whether there is a next page."""
    if after is not None:
        query = query.where(id_column > after)
    return query.order_by(id_column).limit(limit + 1)


def refuse_taken(error: IntegrityError, code: str, message: str) -> Conflict:
    """The Conflict to raise for a unique violation; anything else is raised as it is."""
    if getattr(error.orig, "sqlstate", None) != UNIQUE_VIOLATION:
        raise error
    return Conflict(code, message)


def is_number(reference: str) -> bool:
    """Whether it is the number of a version, not its id."""
    return reference.isascii() and reference.isdigit() and len(reference) <= NUMBER_DIGITS
