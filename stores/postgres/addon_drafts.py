"""How versions of an add-on come about: written, edited, published, archived. All of it under the lock of its row."""

from collections.abc import Sequence

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import NotFound
from schemas.addons import Addon, AddonVersion, KeptAddonVersion
from schemas.scope import Scope
from stores.postgres.addons import VERSIONS, get_addon, said_by, version_of
from stores.postgres.rows import find, find_named, in_scope, is_number, page
from stores.postgres.tables import addon_versions, addons, plans


async def lock_addon(conn: AsyncConnection, scope: Scope, reference: str) -> Addon:
    """The add-on, for a change of it or of its versions: others that lock it wait until the transaction ends.

    Raises NotFound `addon_not_found`.
    """
    addon_id = (await find(conn, addons, scope, reference, "addon")).id
    await conn.execute(select(addons.c.id).where(addons.c.id == addon_id).with_for_update(key_share=True))
    return await get_addon(conn, scope, addon_id)


async def change_addon_version(conn: AsyncConnection, version: AddonVersion) -> None:
    """The version says what `version` says, and is in its state."""
    statement = update(addon_versions).where(addon_versions.c.id == version.id)
    await conn.execute(statement.values(**said_by(version), revision=addon_versions.c.revision + 1))
    await touch_addon(conn, version.addon_id)


async def delete_addon_draft(conn: AsyncConnection, version: AddonVersion) -> None:
    """Nothing refers to a draft: it is gone."""
    draft = (addon_versions.c.id == version.id, addon_versions.c.status == "draft")
    await conn.execute(delete(addon_versions).where(*draft))
    await touch_addon(conn, version.addon_id)


async def touch_addon(conn: AsyncConnection, addon_id: str) -> None:
    """What the add-on is at the version that it shows may have changed, and so its `ETag` does."""
    await conn.execute(update(addons).where(addons.c.id == addon_id).values(revision=addons.c.revision + 1))


async def next_addon_number(conn: AsyncConnection, addon_id: str) -> int:
    """The number of the add-on's next version, for who holds the add-on's lock."""
    newest = select(func.coalesce(func.max(addon_versions.c.version), 0)).where(addon_versions.c.addon_id == addon_id)
    return int((await conn.execute(newest)).scalar_one()) + 1


async def get_addon_version(conn: AsyncConnection, scope: Scope, addon_id: str, reference: str) -> KeptAddonVersion:
    """By number or id. Raises NotFound `addon_version_not_found`."""
    named = addon_versions.c.version == int(reference) if is_number(reference) else addon_versions.c.id == reference
    query = VERSIONS.where(in_scope(addons, scope), addon_versions.c.addon_id == addon_id, named)
    row = (await conn.execute(query)).first()
    if row is None:
        message = f"the add-on has no version {reference!r}; its list shows those there are"
        raise NotFound("addon_version_not_found", message)
    return version_of(row)


async def list_addon_versions(
    conn: AsyncConnection, scope: Scope, addon_id: str, *, limit: int, after: str | None
) -> list[KeptAddonVersion]:
    """All versions of an add-on, oldest first, up to `limit + 1`."""
    query = VERSIONS.where(in_scope(addons, scope), addon_versions.c.addon_id == addon_id)
    rows = await conn.execute(page(query, addon_versions.c.id, limit=limit, after=after))
    return [version_of(row) for row in rows]


async def plan_keys_named(conn: AsyncConnection, scope: Scope, references: Sequence[str]) -> dict[str, str]:
    """Keys of plans by the id or key used, archived ones too; those that are not there are left out."""
    return {name: row.key for name, row in (await find_named(conn, plans, scope, references)).items()}
