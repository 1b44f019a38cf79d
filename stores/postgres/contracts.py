"""The contract of a customer, as it leaves for the balances worker."""

from datetime import datetime

import msgspec
from msgspec.structs import replace
from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.contracts import HeldPlan, held_entitlements
from domain.customers import references_of
from domain.identity import customer_partition
from domain.subscriptions.grants import granted_spans
from schemas.contracts import CustomerContract
from schemas.customers import Customer
from schemas.scope import Scope
from schemas.topics import CONTRACTS_CHANGED
from stores.postgres import outbox
from stores.postgres.granted import granted_features, plan_grants
from stores.postgres.sold import sold_of
from stores.postgres.subscriptions import life_of, subscriptions_of
from stores.postgres.tables import plan_versions, subscriptions


async def publish_contract(
    conn: AsyncConnection, scope: Scope, customer: Customer, version: int, known_at: datetime, partitions: int
) -> CustomerContract:
    """Writes the customer's whole contract to the outbox, in the caller's transaction.

    `version` is the catalog version the transaction took: versions commit in order, so of two contracts of a customer
    the greater version is the newer, and readers that see one twice keep it once.
    """
    held = await _held_plans(conn, customer.id, known_at)
    contract = CustomerContract(
        version=version,
        tenant=scope.tenant,
        environment=scope.environment,
        customer_id=customer.id,
        references=references_of(customer),
        entitlements=held_entitlements(held, known_at),
    )
    await outbox.enqueue(
        conn,
        CONTRACTS_CHANGED,
        customer_partition(scope.tenant, scope.environment, customer.id, partitions),
        f"{scope.tenant}/{scope.environment}/{customer.id}".encode(),
        msgspec.json.encode(contract),
    )
    return contract


async def _held_plans(conn: AsyncConnection, customer_id: str, known_at: datetime) -> list[HeldPlan]:
    query = (
        select(subscriptions, plan_versions.c.plan_id, plan_versions.c.cadence)
        .join(plan_versions, plan_versions.c.id == subscriptions.c.plan_version_id)
        .where(
            subscriptions.c.customer_id == customer_id,
            or_(subscriptions.c.end_at.is_(None), subscriptions.c.end_at > known_at),
        )
    )
    rows = (await conn.execute(query)).all()
    lives = {row.id: life for row in rows if (life := life_of(row)) is not None}
    sold = await sold_of(conn, lives.values())
    spans = [(name, span) for name, life in lives.items() for span in granted_spans(life, sold, known_at)]
    told = await granted_features(conn, [span.entitlements for _, span in spans])
    granted = await plan_grants(conn, {row.plan_version_id for row in rows})
    plain = {
        row.id: HeldPlan(subscription=one, cadence=row.cadence, features=granted.get(row.plan_version_id, ()))
        for row, one in zip(rows, await subscriptions_of(conn, rows, known_at), strict=True)
    }
    held = [one for name, one in plain.items() if name not in lives]
    held += [
        replace(plain[name], features=found, starts_at=span.start, ends_at=span.end, units=span.units)
        for (name, span), found in zip(spans, told, strict=True)
    ]
    return held
