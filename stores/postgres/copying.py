"""Many rows into a table by COPY: one statement whatever their number."""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection


async def copy_rows(conn: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Adds `rows`, which all name the same columns in the same order, in the caller's transaction: all or none.

    A column that is not named gets its default; JSON is given as text. Raises psycopg's errors.
    """
    if not rows:
        return
    columns = sql.SQL(", ").join(map(sql.Identifier, rows[0]))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.name), columns)
    driver = (await conn.get_raw_connection()).driver_connection
    if driver is None:
        raise ValueError("the connection is closed")
    async with driver.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            await copy.write_row(row.values())
