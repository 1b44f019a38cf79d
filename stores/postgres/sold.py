"""The catalog that histories of subscriptions refer to."""

from collections.abc import Iterable

from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.subscription_life import Life, Sold
from stores.postgres.addons import addon_versions_by_id
from stores.postgres.plans import plan_version_cards


async def sold_of(
    conn: AsyncConnection,
    lives: Iterable[Life],
    plan_version_ids: Iterable[str] = (),
    addon_version_ids: Iterable[str] = (),
) -> Sold:
    """Every version of a plan or an add-on that the lives hold or ever held, and those that are named, whatever their
    tenant.
    """
    held = list(lives)
    plans = {*plan_version_ids, *(plan.plan_version_id for life in held for plan in life.plans)}
    addons = {*addon_version_ids, *(addon.addon_version_id for life in held for addon in life.addons)}
    return Sold(
        plans=await plan_version_cards(conn, sorted(plans)) if plans else {},
        addons=await addon_versions_by_id(conn, sorted(addons)) if addons else {},
    )
