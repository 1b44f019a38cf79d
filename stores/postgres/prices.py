"""Prices by their id, as they were sold: one never changes."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.late_usage import SoldPrice
from schemas.prices import PlanPrice
from stores.postgres.tables import plan_versions, prices


async def billed_prices(conn: AsyncConnection, price_ids: Sequence[str]) -> dict[str, SoldPrice]:
    """With the cadence of the plan version that each belongs to, whatever its tenant; what is not there is left out."""
    if not price_ids:
        return {}
    query = select(prices.c.id, prices.c.definition, plan_versions.c.cadence).join(
        plan_versions, plan_versions.c.id == prices.c.plan_version_id
    )
    return {
        row.id: SoldPrice(price=msgspec.convert(row.definition, PlanPrice), cadence=row.cadence)
        for row in await conn.execute(query.where(prices.c.id.in_(set(price_ids))))
    }
