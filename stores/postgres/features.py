"""Features as the catalog keeps them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.features import Feature
from schemas.scope import Scope
from stores.postgres.rows import find, find_named, in_scope, page, refuse_taken
from stores.postgres.tables import features


def _feature(row: Row[Any]) -> Feature:
    return Feature(
        id=row.id,
        key=row.key,
        name=row.name,
        kind=row.kind,
        meter_id=row.meter_id,
        revision=row.revision,
        created_at=row.created_at,
        archived_at=row.archived_at,
    )


async def create_feature(conn: AsyncConnection, scope: Scope, feature: Feature) -> Feature:
    """Safe to repeat by (tenant, environment, key): a second one raises Conflict `feature_key_taken`."""
    values = {
        "id": feature.id,
        "tenant": scope.tenant,
        "environment": scope.environment,
        "key": feature.key,
        "name": feature.name,
        "kind": feature.kind,
        "meter_id": feature.meter_id,
        "created_at": feature.created_at,
    }
    try:
        row = (await conn.execute(insert(features).values(values).returning(features))).one()
    except IntegrityError as error:
        message = f"there is a feature with the key {feature.key!r} already"
        raise refuse_taken(error, "feature_key_taken", message) from error
    return _feature(row)


async def get_feature(conn: AsyncConnection, scope: Scope, reference: str) -> Feature:
    """By id or key. Raises NotFound `feature_not_found`."""
    return _feature(await find(conn, features, scope, reference, "feature"))


async def features_named(conn: AsyncConnection, scope: Scope, references: Sequence[str]) -> dict[str, Feature]:
    """By the id or key used, archived ones too; those that are not there are left out."""
    return {name: _feature(row) for name, row in (await find_named(conn, features, scope, references)).items()}


async def list_features(conn: AsyncConnection, scope: Scope, *, limit: int, after: str | None) -> list[Feature]:
    """Features that are not archived, oldest first, up to `limit + 1`."""
    query = select(features).where(in_scope(features, scope), features.c.archived_at.is_(None))
    return [_feature(row) for row in await conn.execute(page(query, features.c.id, limit=limit, after=after))]


async def archive_feature(conn: AsyncConnection, scope: Scope, feature: Feature, archived_at: datetime) -> None:
    """No new plan can grant it; plans that do keep it. Repeating it changes nothing."""
    await conn.execute(
        update(features)
        .where(in_scope(features, scope), features.c.id == feature.id, features.c.archived_at.is_(None))
        .values(archived_at=archived_at, revision=features.c.revision + 1)
    )
