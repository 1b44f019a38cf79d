"""Add-ons and their versions: rate cards and entitlements sold on top of a plan."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Row, insert, select, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.addons import Addon, AddonTerms, AddonVersion, KeptAddonVersion
from schemas.scope import Scope
from stores.postgres.rows import find, in_scope, page, refuse_taken
from stores.postgres.tables import addon_versions, addons

# A row of `version_of`: a version with what its add-on says.
VERSIONS = select(addon_versions, addons.c.key, addons.c.name, addons.c.currency).join(
    addons, addons.c.id == addon_versions.c.addon_id
)


async def create_addon(conn: AsyncConnection, scope: Scope, version: AddonVersion, created_at: datetime) -> None:
    """Keeps the add-on with its first version.

    Safe to repeat by (tenant, environment, key): a second one raises Conflict `addon_key_taken`.
    """
    values = {
        "id": version.addon_id,
        "tenant": scope.tenant,
        "environment": scope.environment,
        "key": version.addon_key,
        "name": version.name,
        "currency": version.currency,
        "created_at": created_at,
    }
    try:
        await conn.execute(insert(addons).values(values))
    except IntegrityError as error:
        message = f"there is an add-on with the key {version.addon_key!r} already"
        raise refuse_taken(error, "addon_key_taken", message) from error
    await insert_addon_version(conn, version, created_at)


async def insert_addon_version(conn: AsyncConnection, version: AddonVersion, created_at: datetime) -> None:
    """Safe to repeat by (add-on, number): the database holds a number once."""
    values = {
        "id": version.id,
        "addon_id": version.addon_id,
        "version": version.version,
        "created_at": created_at,
        **said_by(version),
    }
    await conn.execute(insert(addon_versions).values(values))


async def get_addon(conn: AsyncConnection, scope: Scope, reference: str) -> Addon:
    """The add-on with this id or key at the version that is sold now: the newest published one; where none is, the newest.

    Raises NotFound `addon_not_found`.
    """
    row = await find(conn, addons, scope, reference, "addon")
    return (await _with_versions(conn, [row]))[0]


async def list_addons(conn: AsyncConnection, scope: Scope, *, limit: int, after: str | None) -> list[Addon]:
    """Add-ons that are not archived, oldest first, each as `get_addon` has it, up to `limit + 1`."""
    query = select(addons).where(in_scope(addons, scope), addons.c.archived_at.is_(None))
    rows = (await conn.execute(page(query, addons.c.id, limit=limit, after=after))).all()
    return await _with_versions(conn, rows)


async def addon_versions_by_id(conn: AsyncConnection, ids: Sequence[str]) -> dict[str, AddonVersion]:
    """Versions of add-ons, whatever their tenant and state: what decisions about subscriptions work with."""
    rows = await conn.execute(VERSIONS.where(addon_versions.c.id.in_(ids)))
    return {row.id: version_of(row) for row in rows}


async def rename_addon(conn: AsyncConnection, scope: Scope, addon: Addon, name: str) -> None:
    await conn.execute(
        update(addons)
        .where(in_scope(addons, scope), addons.c.id == addon.id)
        .values(name=name, revision=addons.c.revision + 1)
    )


async def archive_addon(conn: AsyncConnection, scope: Scope, addon: Addon, archived_at: datetime) -> None:
    """It cannot be sold any more; subscriptions keep it. Repeating it changes nothing."""
    await conn.execute(
        update(addons)
        .where(in_scope(addons, scope), addons.c.id == addon.id, addons.c.archived_at.is_(None))
        .values(archived_at=archived_at, revision=addons.c.revision + 1)
    )


def version_of(row: Row[Any]) -> KeptAddonVersion:
    """Of a row of `VERSIONS`."""
    terms = msgspec.convert(row.terms, AddonTerms)
    return KeptAddonVersion(
        id=row.id,
        addon_id=row.addon_id,
        addon_key=row.key,
        name=row.name,
        version=row.version,
        status=row.status,
        currency=row.currency,
        max_quantity=terms.max_quantity,
        plans=terms.plans,
        rate_cards=terms.rate_cards,
        entitlements=terms.entitlements,
        published_at=row.published_at,
        archived_at=row.archived_at,
        revision=row.revision,
        created_at=row.created_at,
    )


def said_by(version: AddonVersion) -> dict[str, Any]:
    """The columns of what a version says, and of its state."""
    terms = AddonTerms(
        max_quantity=version.max_quantity,
        plans=version.plans,
        rate_cards=version.rate_cards,
        entitlements=version.entitlements,
    )
    return {
        "status": version.status,
        "terms": msgspec.to_builtins(terms),
        "published_at": version.published_at,
        "archived_at": version.archived_at,
    }


async def _with_versions(conn: AsyncConnection, rows: Iterable[Row[Any]]) -> list[Addon]:
    """Each at its newest published version, or at its newest where none is published."""
    heads = list(rows)
    newest = VERSIONS.ext(distinct_on(addon_versions.c.addon_id))
    newest = newest.where(addon_versions.c.addon_id.in_([head.id for head in heads]))
    published_first = (addon_versions.c.status == "published").desc()
    newest = newest.order_by(addon_versions.c.addon_id, published_first, addon_versions.c.version.desc())
    versions = {row.addon_id: version_of(row) for row in await conn.execute(newest)}
    return [_addon(head, versions[head.id]) for head in heads]


def _addon(head: Row[Any], version: AddonVersion) -> Addon:
    return Addon(
        id=head.id,
        key=head.key,
        name=head.name,
        currency=head.currency,
        version=version.version,
        version_id=version.id,
        status=version.status,
        max_quantity=version.max_quantity,
        plans=version.plans,
        rate_cards=version.rate_cards,
        entitlements=version.entitlements,
        revision=head.revision,
        created_at=head.created_at,
        archived_at=head.archived_at,
    )
