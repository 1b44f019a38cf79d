"""The catalog that histories of subscriptions refer to."""

from collections.abc import Iterable

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.plan_versions import version_of
from schemas.plan_phases import PlanVersion
from schemas.plans import Plan
from schemas.subscription_life import Life, Sold
from stores.postgres.plans import plan_versions_by_id


async def sold_of(conn: AsyncConnection, lives: Iterable[Life], plan_version_ids: Iterable[str] = ()) -> Sold:
    """Every plan version that the lives hold or ever held, and those that are named, whatever their tenant."""
    held = {plan.plan_version_id for life in lives for plan in life.plans}
    plans = await plan_versions_by_id(conn, sorted(held | set(plan_version_ids)))
    return Sold(plans={version_id: _version(plan) for version_id, plan in plans.items()})


def _version(plan: Plan) -> PlanVersion:
    """Of a plan that is archived, no version is sold."""
    version = version_of(plan)
    return version if plan.archived_at is None else replace(version, status="archived")
