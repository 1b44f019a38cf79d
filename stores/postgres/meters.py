"""Meters as the catalog keeps them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.catalog import CatalogChange
from schemas.kept_meters import KeptMeter
from schemas.meters import Meter
from schemas.scope import Scope
from stores.postgres import catalog_log
from stores.postgres.rows import find, find_named, in_scope, page, refuse_taken
from stores.postgres.tables import meters


def _meter(row: Row[Any]) -> KeptMeter:
    kept = {
        "taken_up_in": row.taken_up_in,
        "revision": row.revision,
        "created_at": row.created_at,
        "archived_at": row.archived_at,
    }
    return msgspec.convert({**row.definition, **kept}, KeptMeter)


def _change(scope: Scope, meter_id: str, definition: dict[str, Any] | None) -> CatalogChange:
    return CatalogChange(
        kind="meter", tenant=scope.tenant, environment=scope.environment, key=meter_id, body=definition
    )


async def create_meter(conn: AsyncConnection, scope: Scope, meter: Meter, created_at: datetime) -> KeptMeter:
    """Keeps the meter and tells the workers, in the caller's transaction.

    Safe to repeat by (tenant, environment, key): a second one raises Conflict `meter_key_taken`.
    """
    version = await catalog_log.begin_version(conn)
    definition = msgspec.to_builtins(meter)
    values = {
        "id": meter.id,
        "tenant": scope.tenant,
        "environment": scope.environment,
        "key": meter.key,
        "name": meter.name,
        "generation": meter.generation,
        "definition": definition,
        "taken_up_in": version,
        "created_at": created_at,
    }
    try:
        row = (await conn.execute(insert(meters).values(values).returning(meters))).one()
    except IntegrityError as error:
        raise refuse_taken(error, "meter_key_taken", f"there is a meter with the key {meter.key!r} already") from error
    await catalog_log.record(conn, version, [_change(scope, meter.id, definition)])
    return _meter(row)


async def get_meter(conn: AsyncConnection, scope: Scope, reference: str) -> KeptMeter:
    """By id or key, archived ones too. Raises NotFound `meter_not_found`."""
    return _meter(await find(conn, meters, scope, reference, "meter"))


async def meters_named(conn: AsyncConnection, scope: Scope, references: Sequence[str]) -> dict[str, KeptMeter]:
    """By the id or key used, archived ones too; those that are not there are left out."""
    return {name: _meter(row) for name, row in (await find_named(conn, meters, scope, references)).items()}


async def list_meters(conn: AsyncConnection, scope: Scope, *, limit: int, after: str | None) -> list[KeptMeter]:
    """Meters that are not archived, oldest first, up to `limit + 1`."""
    query = page(
        select(meters).where(in_scope(meters, scope), meters.c.archived_at.is_(None)),
        meters.c.id,
        limit=limit,
        after=after,
    )
    return [_meter(row) for row in await conn.execute(query)]


async def rename_meter(conn: AsyncConnection, scope: Scope, meter: KeptMeter, name: str) -> KeptMeter:
    """A new name; what it counts stays, so no generation and no catalog version is taken."""
    definition = {**msgspec.to_builtins(_definition(meter)), "name": name}
    change = (
        update(meters)
        .where(in_scope(meters, scope), meters.c.id == meter.id)
        .values(name=name, definition=definition, revision=meters.c.revision + 1)
        .returning(meters)
    )
    return _meter((await conn.execute(change)).one())


async def archive_meter(conn: AsyncConnection, scope: Scope, meter: KeptMeter, archived_at: datetime) -> None:
    """No event matches it from the next catalog version on; what was counted stays. Repeating it changes nothing."""
    if meter.archived_at is not None:
        return
    version = await catalog_log.begin_version(conn)
    await conn.execute(
        update(meters)
        .where(in_scope(meters, scope), meters.c.id == meter.id)
        .values(archived_at=archived_at, revision=meters.c.revision + 1)
    )
    await catalog_log.record(conn, version, [_change(scope, meter.id, None)])


def _definition(meter: KeptMeter) -> Meter:
    return Meter(**{name: getattr(meter, name) for name in Meter.__struct_fields__})
